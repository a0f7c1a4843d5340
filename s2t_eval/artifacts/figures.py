"""Measured figures in files and messages; one that is undefined is None there, because JSON has no NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def without_nan(value: Any) -> Any:
    """The same JSON value with None in place of every NaN, at any depth."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def figures_text(figures: Mapping[str, float | None], digits: str = ".4g") -> str:
    """Figures in one line, "auroc 0.7699, precision undefined".

    Args:
        figures: name -> value; None or NaN where it is undefined.
        digits: the format of a value.
    """
    shown = (
        (name, "undefined" if value is None or value != value else format(value, digits))
        for name, value in figures.items()
    )
    return ", ".join(f"{name} {text}" for name, text in shown)
