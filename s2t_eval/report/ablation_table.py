"""The ablation table: what each method and setting gains over greedy on the same documents."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from s2t_eval.report.blocks import Entry
from s2t_eval.report.compare import Comparison, compare_pair
from s2t_eval.report.table import Block, Cell, Table
from s2t_eval.statistics import holm

HEAD = (
    "method",
    "n",
    "correct %",
    "Δ points (95 %)",
    "won / lost",
    "p (Holm)",
    "share of gap",
    "fired",
    "flips",
)


def ablation_table(entries: Sequence[Entry]) -> Table | None:
    """Rows paired against their student's greedy run; None where no student has one with documents.

    `share of gap` is the part of the way from greedy to the teacher's own accuracy.
    """
    blocks, frames = [], []
    for student, benchmark in dict.fromkeys((e.student, e.benchmark) for e in entries):
        part = [e for e in entries if (e.student, e.benchmark) == (student, benchmark)]
        part = [e for e in part if e.run.documents is not None]
        control = next((e for e in part if e.run.method.key == "greedy" and not e.is_teacher), None)
        others = [e for e in part if e is not control]
        if control is None or not others:
            continue
        pairs = [compare_pair(control.run, e.run) for e in others]
        adjusted = holm([pair.p for pair in pairs])
        teacher = next((pair.new_score for e, pair in zip(others, pairs, strict=True) if e.is_teacher), None)
        rows = [_row(e, pair, p, teacher) for e, pair, p in zip(others, pairs, adjusted, strict=True)]
        frame = pd.DataFrame([{"student": student, "benchmark": benchmark.title, **row} for row in rows])
        frames.append(frame)
        heading = f"{student}, {benchmark.title}: greedy {100 * pairs[0].base_score:.1f} %"
        blocks.append(Block(heading, [_cells(row) for row in rows]))
    if not blocks:
        return None
    return Table(
        name="ablation",
        title="Gain over greedy on the same documents",
        head=HEAD,
        blocks=blocks,
        notes=[
            "Interval: paired bootstrap. p: exact McNemar, Holm over the rows of a block. Share of gap: of "
            "the way from greedy to the teacher alone, where that was run. Fired, flips: of generated tokens."
        ],
        data=pd.concat(frames, ignore_index=True),
    )


def _row(entry: Entry, pair: Comparison, p: float, teacher: float | None) -> dict[str, object]:
    gap = None if teacher is None else teacher - pair.base_score
    return {
        "method": entry.label,
        "n": pair.n,
        "correct": 100 * pair.new_score,
        "delta": 100 * pair.delta,
        "low": 100 * pair.interval.low,
        "high": 100 * pair.interval.high,
        "won": len(pair.won),
        "lost": len(pair.lost),
        "p": pair.p,
        "p_holm": p,
        "share_of_gap": 100 * pair.delta / gap if gap and not entry.is_teacher else float("nan"),
        "fired": 100 * entry.run.cost.get("realised_rate", float("nan")),
        "flips": 100 * entry.run.cost.get("flip_rate", float("nan")),
    }


def _cells(row: dict[str, object]) -> list[Cell]:
    percent = ["–" if row[k] != row[k] else f"{row[k]:.1f} %" for k in ("share_of_gap", "fired", "flips")]
    return [
        Cell(str(row["method"])),
        Cell(str(row["n"])),
        Cell(f"{row['correct']:.1f}"),
        Cell(f"{row['delta']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"),
        Cell(f"{row['won']} / {row['lost']}"),
        Cell(f"{row['p_holm']:.2g}"),
        *map(Cell, percent),
    ]
