"""The rescue map: both models' probabilities of the picked tokens, with the change of the answer."""

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
COLUMNS = (
    *("task", "doc_id", "t", "divergence", "p_student", "p_teacher", "p_teacher_greedy"),
    *("is_flip", "outcome", "greedy", "picked", "context"),
)
CONTEXT = 40
"""Number of tokens before a flip that are shown with it."""
MAX_DOCUMENTS = 200
"""Documents whose flips are listed at most."""


def picks(
    trace: Trace,
    scores: dict[int, float],
    control: dict[int, float],
    student: StudentProbability,
    decode: Decode,
) -> pd.DataFrame:
    """A row for each fired step of a trace whose scores are the teacher's probabilities (s2t, takeover).

    Args:
        trace: of one method.
        scores: document -> score of that method.
        control: document -> score of greedy.
        student: gives p_S, which traces do not contain.
        decode: token ids to text.

    Returns:
        Columns task, doc_id, t, divergence, p_student, p_teacher (of the picked token; nan where a takeover
        wrote a token that was not a candidate), p_teacher_greedy, is_flip, outcome, greedy, picked, context.

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
        probabilities = student(record["prompt_ids"], record["output_ids"], wanted) if steps else []
        change = outcome(control.get(record["doc_id"]), scores.get(record["doc_id"]))
        for step, p_student in zip(steps, probabilities, strict=True):
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
                    "outcome": change,
                    "greedy": decode([step["greedy"]]),
                    "picked": decode([step["picked"]]),
                    "context": decode(record["output_ids"][begin : step["t"]]),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS).astype({"is_flip": bool})  # a trace may have no fired step


def _score(step: dict[str, Any], token: int) -> float:
    if token not in step["candidates"]:
        return float("nan")
    return float(step["scores"][step["candidates"].index(token)])


def outcome(control: float | None, score: float | None) -> str:
    """The change of a document's answer, by its scores without and with the method."""
    if control is None or score is None or control != control or score != score:
        return "unknown"
    if (control > 0) == (score > 0):
        return "stayed right" if score > 0 else "stayed wrong"
    return "became right" if score > 0 else "became wrong"


def rescue_map(data: pd.DataFrame) -> Plot:
    """p_S against p_L of the picked tokens: filled where the pick differs from greedy's."""
    with canvas(8.2, 3.9, columns=2) as (figure, axes):
        for ax, is_flip in zip(axes, (True, False), strict=True):
            part = data[data["is_flip"] == is_flip]
            for name in reversed(OUTCOMES):  # rare outcomes are drawn last, on top
                dots = part[part["outcome"] == name]
                if len(dots):
                    ax.scatter(
                        dots["p_student"],
                        dots["p_teacher"],
                        s=13,
                        color=OUTCOMES[name],
                        alpha=0.75,
                        linewidth=0,
                        label=f"{name} ({len(dots):,})",
                    )
            ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=":")
            ax.set_xlim(-0.03, 1.03)
            ax.set_ylim(-0.03, 1.03)
            ax.set_title(
                "picks that differ from greedy's token" if is_flip else "picks of greedy's token", fontsize=9
            )
            ax.set_xlabel("student's probability of the picked token")
            if len(part):
                ax.legend(fontsize=7, loc="lower right", title="the document's answer", title_fontsize=7)
        axes[0].set_ylabel("teacher's probability")
    return Plot("rescue_map", "Rescue map: picked tokens at fired steps", data, figure)


def flips_text(data: pd.DataFrame) -> str:
    """Markdown: the flips of documents whose answer changed, with the text before them.

    Args:
        data: of `picks`, with a column `method` where there are traces of several.
    """
    data = data if "method" in data else data.assign(method="")
    changed = data[data["is_flip"] & data["outcome"].isin(["became right", "became wrong"])]
    place = ["task", "doc_id", "method", "outcome"]
    documents = list(changed.groupby(place, sort=True))
    has_methods = data["method"].nunique() > 1
    num_documents = len(changed[["task", "doc_id"]].drop_duplicates())
    lines = [
        "# Flips that may have changed an answer",
        "",
        f"{len(changed):,} flips in {num_documents} documents whose answer changed. It is not "
        "known which of a document's flips changed it."
        + (f" Those of the first {MAX_DOCUMENTS} are listed." if len(documents) > MAX_DOCUMENTS else ""),
        "",
    ]
    for (task, doc, method, became), part in documents[:MAX_DOCUMENTS]:
        by = f", {md(str(method))}" if has_methods else ""
        lines += [f"## {md(str(task))} {doc}{by}: {became}", ""]
        for row in part.itertuples(index=False):
            context = _code("…" + str(row.context))
            lines.append(
                f"- token {row.t}: {context} {_code(row.greedy)} → {_code(row.picked)} (probability of the "
                f"teacher {row.p_teacher_greedy:.2g} → {row.p_teacher:.2g}, "
                f"of the student {row.p_student:.2g})"
            )
        lines.append("")
    return "\n".join(lines)


def _code(text: object) -> str:
    code = str(text).replace("\n", "⏎").replace("\r", "⏎") or "∅"
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in (code[0], code[-1]) else ""
    return f"{fence}{space}{code}{space}{fence}"
