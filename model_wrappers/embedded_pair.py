"""The embedded pair as everybody's default: a backend without `pretrained` runs on it, and says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

STUDENT, TEACHER = "embedded/student", "embedded/teacher"
SELECTOR = "embedded/selector"
DEFAULT_TAU = 0.05

PARTS: Mapping[str, Mapping[str, Any]] = {
    "distil": {"peft": "embedded/distilled"},
    "s2t": {"teacher": TEACHER, "selector": SELECTOR, "tau": DEFAULT_TAU},
    "takeover": {"teacher": TEACHER, "selector": SELECTOR, "tau": DEFAULT_TAU},
    "r2r": {"teacher": TEACHER, "router": "embedded/r2r", "tau": DEFAULT_TAU},
    "s2t_local": {"selector": SELECTOR},
    "pps_local": {"selector": SELECTOR},
    "tah": {"tah": "embedded/tah"},
}
"""Method -> what it needs beside the student. A selector holds the thresholds of KL triggers too, measured
with the embedded teacher."""


def with_embedded_pair(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as given if they name a model, else on the embedded student with what the method needs.

    Arguments that are given stay. A trigger's rate is not added to a threshold, nor to a trigger without one.

    Args:
        method: a backend's `METHOD`.
        given: `--model_args`.
    """
    if given.get("pretrained") is not None:
        return dict(given)
    parts = {"pretrained": STUDENT, **PARTS.get(method, {})}
    if given.get("threshold") is not None or given.get("trigger") in ("always", "never"):
        parts.pop("tau", None)
    added = {name: value for name, value in parts.items() if given.get(name) is None}
    logger.warning(
        "--model %s without pretrained=MODEL: it runs on the embedded pair, with %s",
        method,
        ",".join(f"{name}={value}" for name, value in added.items()),
    )
    return {**given, **added}
