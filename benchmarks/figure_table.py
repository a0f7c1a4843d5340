"""A table of single figures from the file that `benchmarks.gpu` or `benchmarks.speed FIGURE` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown_table import markdown_table
from benchmarks.ratios import Machine
from benchmarks.speed_table import spread

GOAL = "the project's own goal"
HEAD = ("figure", "measured", "n", GOAL)


def figure_table(content: Mapping[str, Any]) -> str:
    """The ratios of a file in Markdown, a row each, below what all of them have in common.

    Args:
        content: of `benchmarks.gpu --json FILE`, several figures, or of `benchmarks.speed`, which has one.

    Raises:
        ValueError: figures of several models or dtypes: they belong into several tables.
    """
    figures = content.get("figures", [content])
    captions = {_models_text(figure["settings"]) for figure in figures}
    if len(captions) != 1:
        raise ValueError(f"expected figures of the same models and dtype, got {sorted(captions)}")
    rows = [
        [ratio["name"], spread(ratio["values"]), str(ratio["n"]), target_text(ratio)]
        for figure in figures
        for ratio in figure["ratios"]
    ]
    caption = f"{captions.pop()}; {Machine(**content['machine'])} (median, smallest and largest):"
    return f"{caption}\n\n{markdown_table(HEAD, rows)}"


def target_text(ratio: Mapping[str, Any]) -> str:
    """The bound on a ratio, and whether it was missed; a dash without one."""
    if not ratio["target"]:
        return "–"
    bound = ratio["target"].replace("<=", "at most").replace(">=", "at least")
    return bound if ratio["is_met"] else f"{bound}: **missed**"


def _models_text(settings: Mapping[str, Any]) -> str:
    return f"`{settings['student']}` and `{settings['teacher']}`, {settings['dtype']}"
