"""The efficiency table: the cost of a problem, by method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from s2t_eval.report.blocks import Entry, in_first_rows
from s2t_eval.report.cells import MISSING
from s2t_eval.report.costs import OF_SOME, costs
from s2t_eval.report.published import published_times
from s2t_eval.report.table import Block, Cell, Table

NUMBERS = {
    "tokens": "tokens",
    "tokens_per_correct": "generated tokens / correct answer",
    "computed_per_correct": "computed tokens / correct answer",
    "cut_off": "cut off %",
    "forwards_per_token": "forwards / token",
    "fired": "fired %",
    "flips": "flips %",
    "teacher_calls": "teacher calls",
    "teacher_tokens": "teacher tokens",
    "teacher_generated": "written by teacher",
    "scorer_calls": "scorer calls",
    "scorer_tokens": "scorer tokens",
    "discarded_tokens": "discarded tokens",
    "evaluation_tokens": "evaluation tokens",
    "billions_of_work": "parameters × tokens, billions",
}
TIMES = {"seconds": "seconds", "tokens_per_second": "tokens/s", "peak_gib": "peak GiB"}
EXPLAINED = {
    "teacher_generated": "Teacher tokens are all that the teacher computed, prompts included; those that it "
    "wrote are among the generated ones.",
    "discarded_tokens": "Discarded tokens were drafted or branched in vain, and are not among the generated "
    "ones.",
    "evaluation_tokens": "Evaluation tokens were read in order to score steps.",
}
TIME_OF_GREEDY = "published_times_greedy"
"""Column of the data: the published time of a method, as a multiple of greedy decoding's."""
PUBLISHED = (
    "Parentheses behind seconds contain published times as multiples of greedy decoding's (as the authors of "
    "PPS-Local report them), on another machine and other prompts."
)
PLACES = {"forwards_per_token": 3, "fired": 2, "flips": 2, "seconds": 2, "peak_gib": 2}
"""Decimal places, where they are not 1."""


def efficiency_table(
    entries: Sequence[Entry], *, times: bool = True, with_published: bool = True
) -> Table | None:
    """Mean costs of a problem; None where no run has telemetry.

    Args:
        entries: runs in their places.
        times: whether seconds and memory are shown, which hold for one machine only.
        with_published: whether published times are shown behind seconds, of published students.
    """
    data = costs(entries)
    if data.empty:
        return None
    times = times and bool(data["seconds"].notna().any())
    shown = [name for name in OF_SOME if data[name].fillna(0).any()]
    columns = {name: title for name, title in NUMBERS.items() if name not in OF_SOME or name in shown}
    columns |= TIMES if times else {}
    if times and with_published:
        data = _with_published_times(data)
    data = data[[column for column in data.columns if column not in TIMES or times]]
    blocks = []
    for (student, tasks), part in data.groupby(["student", "tasks"], sort=False):
        rows = [
            [Cell(str(row["method"])), Cell(str(row["problems"])), *(_cell(k, row) for k in columns)]
            for _, row in part.iterrows()
        ]
        blocks.append(Block(f"{student}, {tasks}", rows))
    notes = [
        "Mean over problems, except for rates. Tokens are generated tokens, those of all samples of a vote "
        "included (in the row of the teacher alone, the teacher's); those for each correct answer include "
        "discarded drafts and abandoned branches. Computed tokens are those of student, teacher and scorer, "
        "prompts included. Cut off is the share of the texts that "
        "ended at the limit of new tokens. Parameters × tokens is summed over student, teacher and scorer, "
        "for all tokens computed, prompts included."
    ]
    if shown:
        notes.append(" ".join([*(EXPLAINED[name] for name in shown), "A dash is none, or not counted."]))
    repeated = dict.fromkeys(e.benchmark.title for e in entries if max(e.run.repeats, default=1) > 1)
    if repeated:
        notes.append(f"Each problem of {', '.join(repeated)} was repeated: the figures are of one response.")
    if times:
        notes.append("Seconds and memory hold for the machine on which each run was made.")
        at_once = max(int(entry.run.backend_info.get("steps_at_once") or 1) for entry in entries)
        if at_once > 1:
            notes.append(f"Up to {at_once} runs shared it: their seconds are no measure of a method's speed.")
        if TIME_OF_GREEDY in data:
            notes.append(PUBLISHED)
    head = ["method", "problems", *columns.values()]
    return Table("efficiency", "Mean cost of a problem", head, blocks, notes, data)


def _with_published_times(data: pd.DataFrame) -> pd.DataFrame:
    """The costs with TIME_OF_GREEDY where a method of them has a published time; else as they are."""
    parts = []
    for (student, _), part in data.groupby(["student", "tasks"], sort=False):
        rows = zip(part["method"], part["method_key"], strict=True)
        parts.append(pd.Series(in_first_rows(rows, published_times(str(student))), part.index, dtype=float))
    times = pd.concat(parts).reindex(data.index)
    return data.assign(**{TIME_OF_GREEDY: times}) if times.notna().any() else data


def _cell(name: str, row: pd.Series[Any]) -> Cell:
    time = row.get(TIME_OF_GREEDY) if name == "seconds" else None
    return Cell(_text(name, row[name]), None if time is None or time != time else f"{time:.1f} × greedy")


def _text(name: str, value: float) -> str:
    if value != value or (name in OF_SOME and not value):
        return MISSING
    if name == "billions_of_work":
        return f"{value:,.4g}"
    return f"{value:,.{PLACES.get(name, 1)}f}"
