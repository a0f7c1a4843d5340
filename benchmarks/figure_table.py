"""A table of single figures from the file that `benchmarks.gpu` or `benchmarks.speed FIGURE` writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.markdown_table import markdown_table
from benchmarks.ratios import Machine
from benchmarks.speed_table import spread

GOAL = "the project's own goal"
HEAD = ("figure", "measured", "n", GOAL)
WITH_TEACHER = ("labelling", "lockstep", "remote", "remote-labels", "verify", "vllm")
"""Figures that load a teacher, or have one on servers."""


def figure_table(content: Mapping[str, Any]) -> str:
    """The ratios of a file in Markdown, a row each, below what all of them have in common.

    Args:
        content: of `benchmarks.gpu --json FILE`, several figures, or of `benchmarks.speed`, which has one.

    Raises:
        ValueError: figures of several models or dtypes: they belong into several tables.
    """
    figures = content.get("figures", [content])
    students, teachers = _models_of(figures)
    if len(students) != 1 or len(teachers) > 1:
        raise ValueError(
            f"expected figures of the same models and dtype, got {', '.join(sorted(students | teachers))}"
        )
    rows = [
        [
            _described(ratio["name"], figure["settings"]),
            spread(ratio["values"]),
            str(ratio["n"]),
            target_text(ratio),
        ]
        for figure in figures
        for ratio in figure["ratios"]
    ]
    models = " and ".join([*students, *teachers])
    commit = f"; commit `{content['commit'][:7]}`" if content.get("commit") else ""
    caption = f"{models}; {Machine(**content['machine'])}{commit} (median, smallest and largest):"
    return f"{caption}\n\n{markdown_table(HEAD, rows)}"


def _described(name: str, settings: Mapping[str, Any]) -> str:
    """A ratio's name with the texts that were decoded, unless it names them itself."""
    texts, tokens = settings.get("requests"), settings.get("new_tokens")
    if "requests" in name or not texts or not tokens:
        return name
    return f"{name}, {texts} texts of at most {tokens} tokens"


def target_text(ratio: Mapping[str, Any]) -> str:
    """The bound on a ratio, and whether it was missed; a dash without one."""
    if not ratio["target"]:
        return "–"
    bound = ratio["target"].replace("<=", "at most").replace(">=", "at least")
    return bound if ratio["is_met"] else f"{bound}: **missed**"


def _models_of(figures: Iterable[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """The students and the teachers of some figures, each with its dtype."""
    students: set[str] = set()
    teachers: set[str] = set()
    for figure in figures:
        settings = figure["settings"]
        students.add(f"`{settings['student']}`, {settings['dtype']}")
        if figure["figure"] in WITH_TEACHER:
            teachers.add(f"`{settings['teacher']}`, {settings['dtype']}")
    return students, teachers
