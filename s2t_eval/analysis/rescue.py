"""The rescue map: how likely student and teacher find the tokens picked, and what became of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from s2t_eval.method_table import TEACHER_SCORES
from s2t_eval.report.figures import Plot, canvas
from s2t_eval.report.table import md
from s2t_eval.report.traces import Decode, Trace

OUTCOMES = {
    "became right": "#1b9e5a",
    "became wrong": "#c1272d",
    "stayed right": "#9ecae1",
    "stayed wrong": "#bdbdbd",
    "unknown": "#d9b8ff",
}
StudentProbability = Callable[[Sequence[int], Sequence[int], Sequence[tuple[int, int]]], list[float]]
"""(prompt ids, output ids, [(t, token)]) -> the student's probability of each token at its step."""
CONTEXT = 40
"""Tokens before a flip that are shown with it."""


def picks(
    trace: Trace,
    scores: dict[int, float],
    control: dict[int, float],
    student: StudentProbability,
    decode: Decode,
) -> pd.DataFrame:
    """A row a fired step of a trace whose scores are the teacher's probabilities (s2t, takeover).

    Args:
        trace: of one method.
        scores: document -> score of that method.
        control: document -> score of greedy.
        student: gives p_S, which traces do not hold.
        decode: token ids to text.

    Returns:
        Columns task, doc_id, t, divergence, p_student, p_teacher (of the token picked; nan where a takeover
        wrote a token that was no candidate), p_teacher_greedy, is_flip, outcome, greedy, picked, context.

    Raises:
        ValueError: a trace whose scores are a readout's.
    """
    if trace.method not in TEACHER_SCORES:
        raise ValueError(
            f"{trace.path}: the rescue map needs the teacher's probabilities; a trace of {trace.method} has "
            f"the selector's scores; give a trace of {' or '.join(TEACHER_SCORES)}"
        )
    rows = []
    for record in trace.records:
        steps = record["steps"]
        wanted = [(step["t"], step["picked"]) for step in steps]
        own = student(record["prompt_ids"], record["output_ids"], wanted) if steps else []
        before, now = control.get(record["doc_id"]), scores.get(record["doc_id"])
        for step, p_student in zip(steps, own, strict=True):
            begin = max(0, step["t"] - CONTEXT)
            rows.append(
                {
                    "task": record["task"],
                    "doc_id": record["doc_id"],
                    "t": step["t"],
                    "divergence": step["divergence"],
                    "p_student": p_student,
                    "p_teacher": _score(step, step["picked"]),
                    "p_teacher_greedy": _score(step, step["greedy"]),
                    "is_flip": step["picked"] != step["greedy"],
                    "outcome": outcome(before, now),
                    "greedy": decode([step["greedy"]]),
                    "picked": decode([step["picked"]]),
                    "context": decode(record["output_ids"][begin : step["t"]]),
                }
            )
    return pd.DataFrame(rows)


def _score(step: dict[str, Any], token: int) -> float:
    found = step["candidates"].index(token) if token in step["candidates"] else None
    return float("nan") if found is None else float(step["scores"][found])


def outcome(before: float | None, now: float | None) -> str:
    """What became of a document's answer, by its scores without and with the method."""
    if before is None or now is None or before != before or now != now:
        return "unknown"
    if (before > 0) == (now > 0):
        return "stayed right" if now > 0 else "stayed wrong"
    return "became right" if now > 0 else "became wrong"


def rescue_map(data: pd.DataFrame) -> Plot:
    """p_S against p_L of the picked tokens: filled where the pick differs from greedy's."""
    with canvas(8.2, 3.9, columns=2) as (figure, axes):
        for ax, is_flip in zip(axes, (True, False), strict=True):
            part = data[data["is_flip"] == is_flip]
            for name in reversed(OUTCOMES):  # the rare ones on top
                mine = part[part["outcome"] == name]
                if len(mine):
                    ax.scatter(
                        mine["p_student"],
                        mine["p_teacher"],
                        s=13,
                        color=OUTCOMES[name],
                        alpha=0.75,
                        linewidth=0,
                        label=f"{name} ({len(mine):,})",
                    )
            ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=":")
            ax.set_xlim(-0.03, 1.03)
            ax.set_ylim(-0.03, 1.03)
            ax.set_title("another token than greedy's" if is_flip else "greedy's own token", fontsize=9)
            ax.set_xlabel("student's probability of the token picked")
            ax.legend(fontsize=7, loc="lower right", title="the document's answer", title_fontsize=7)
        axes[0].set_ylabel("teacher's probability")
    return Plot("rescue_map", "Rescue map: tokens picked at fired steps", data, figure)


def flips_text(data: pd.DataFrame, most: int = 200) -> str:
    """Markdown: the flips of documents whose answer changed, with the text before them."""
    changed = data[data["is_flip"] & data["outcome"].isin(["became right", "became wrong"])]
    lines = [
        "# Flips that may have changed an answer",
        "",
        f"{len(changed):,} flips in {changed['doc_id'].nunique()} documents whose answer changed; which of a "
        "document's flips changed it is not known.",
        "",
    ]
    for (task, doc, became), part in list(changed.groupby(["task", "doc_id", "outcome"], sort=True))[:most]:
        lines += [f"## {md(str(task))} {doc}: {became}", ""]
        for row in part.itertuples(index=False):
            before = _code("…" + str(row.context))
            lines.append(
                f"- token {row.t}: {before} {_code(row.greedy)} → {_code(row.picked)} (teacher "
                f"{row.p_teacher_greedy:.2g} → {row.p_teacher:.2g}; student's for it {row.p_student:.2g})"
            )
        lines.append("")
    return "\n".join(lines)


def _code(text: object) -> str:
    shown = str(text).replace("\n", "⏎").replace("\r", "⏎") or "∅"
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{space}{shown}{space}{fence}"
