"""The efficiency table: what a problem costs, by method."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from s2t_eval.report.blocks import Entry
from s2t_eval.report.table import Block, Cell, Table

NUMBERS = {
    "tokens": "tokens",
    "forwards_per_token": "forwards / token",
    "fired": "fired %",
    "flips": "flips %",
    "teacher_calls": "teacher calls",
    "teacher_tokens": "teacher tokens",
}
TIMES = {"seconds": "seconds", "tokens_per_second": "tokens/s", "peak_gib": "peak GiB"}


def costs(entries: Sequence[Entry]) -> pd.DataFrame:
    """A row a run file: what a problem cost on average, whatever number of tasks the run had.

    Columns: student, method, method_key, tasks, problems, accuracy (percent, mean over its tasks), and
    NUMBERS and TIMES by problem, nan where a run does not tell, and
    billions_of_work: parameters times tokens computed (prompts included), summed over student and teacher;
    nan where the teacher's size is unknown because it was never run alone.
    """
    rows = []
    sizes = {entry.run.ours.get("student"): _parameters(entry) for entry in entries}
    for source in dict.fromkeys(entry.run.source for entry in entries):
        part = [entry for entry in entries if entry.run.source == source]
        first, cost = part[0], part[0].run.cost
        if not cost:
            continue
        problems = sum(entry.run.n for entry in part)
        memory = cost.get("peak_memory_bytes")
        rows.append(
            {
                "student": first.student,
                "method": first.label,
                "method_key": first.run.method.key,
                "tasks": " + ".join(entry.benchmark.title for entry in part),
                "problems": problems,
                "accuracy": 100 * sum(entry.run.value for entry in part) / len(part),
                "tokens": cost["tokens"] / problems,
                "forwards_per_token": cost["forwards_per_token"],
                "fired": 100 * cost["realised_rate"],
                "flips": 100 * cost["flip_rate"],
                "teacher_calls": cost["teacher_calls"] / problems,
                "teacher_tokens": cost["teacher_tokens"] / problems,
                "billions_of_work": _work(first, sizes, problems),
                "seconds": cost.get("seconds", float("nan")) / problems,
                "tokens_per_second": cost.get("tokens_per_second") or float("nan"),
                "peak_gib": memory / 2**30 if memory else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def _parameters(entry: Entry) -> float:
    return float(entry.run.results["config"].get("model_num_parameters") or float("nan"))


def _work(entry: Entry, sizes: dict[object, float], problems: int) -> float:
    cost, teacher = entry.run.cost, entry.run.ours.get("teacher")
    # PPS scores with the adapted student beside it: as large, and counted apart.
    beside = cost.get("scorer_tokens", 0) + cost.get("discarded_tokens", 0)
    own = _parameters(entry) * (cost["tokens"] + cost["prefill_tokens"] + beside)
    theirs = sizes.get(teacher, float("nan")) * cost["teacher_tokens"] if cost["teacher_tokens"] else 0.0
    return (own + theirs) / problems / 1e9


def efficiency_table(entries: Sequence[Entry], *, times: bool = True) -> Table | None:
    """Costs a problem; None where no run tells what it cost.

    Args:
        entries: runs in their places.
        times: whether seconds and memory are shown; they hold for one machine, counts for all.
    """
    data = costs(entries)
    if data.empty:
        return None
    times = times and bool(data["seconds"].notna().any())
    shown = {**NUMBERS, **(TIMES if times else {})}
    data = data[[column for column in data.columns if column not in TIMES or times]]
    blocks = []
    for (student, tasks), part in data.groupby(["student", "tasks"], sort=False):
        rows = [
            [Cell(str(row["method"])), Cell(str(row["problems"])), *(Cell(_text(k, row[k])) for k in shown)]
            for _, row in part.iterrows()
        ]
        blocks.append(Block(f"{student}, {tasks}", rows))
    notes = [
        "Per problem, but for rates. Tokens: the student's, all samples of a vote (alone, the teacher's)."
    ]
    if times:
        notes.append("Seconds and memory hold for the machine that each run was made on.")
    head = ["method", "problems", *shown.values()]
    return Table("efficiency", "Cost of a problem", head, blocks, notes, data)


def _text(name: str, value: float) -> str:
    if value != value:
        return "–"
    places = {"forwards_per_token": 3, "fired": 2, "flips": 2, "seconds": 2, "peak_gib": 2}.get(name, 1)
    return f"{value:,.{places}f}"
