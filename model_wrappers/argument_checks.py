"""Checks of single values of `--model_args`, each with one clear line."""

from __future__ import annotations

import math


def require_int(name: str, value: object, least: int) -> None:
    """Raise `ValueError` unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def require_bool(name: str, value: object) -> None:
    """Raise `ValueError` unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r}")


def require_number(name: str, value: object) -> None:
    """Raise `ValueError` unless `value` is a number; infinities are, NaN and texts are not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{name}: expected a number, got {value!r}")
