"""The error of R2R's settings, labels and routers; importing this module loads no torch."""


class R2RError(ValueError):
    """Settings, labels or a router that cannot be used here; the message says what differs."""
