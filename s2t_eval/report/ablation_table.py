"""The ablation table: the gain of each method and setting over greedy decoding on the same documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from s2t_eval.report.blocks import Entry, in_first_rows, is_of_teacher, model_key, teacher_of
from s2t_eval.report.cells import delta, p_value, percent, percent_sign, share, won_lost
from s2t_eval.report.comparable import NoSharedScoreError
from s2t_eval.report.compare import Comparison, compare_pair, p_values_from, paired_scores
from s2t_eval.report.controls import control_of
from s2t_eval.report.costs import fired_rates
from s2t_eval.report.published import published_gains
from s2t_eval.report.runs import is_of_default_metric
from s2t_eval.report.table import Block, Cell, Table
from s2t_eval.statistics import UNDEFINED, Interval, holm, share_of_gain

HEAD = (
    "method",
    "n",
    "correct %",
    "Δ points (95 %)",
    "won / lost",
    "p (Holm)",
    "share of gap (95 %)",
    "fired",
    "flips",
)

PUBLISHED = (
    "A gain behind the interval, in parentheses, is the difference of published accuracies, on all documents "
    "and with the setting that was published."
)


class _Row(NamedTuple):
    """A run paired with its control."""

    entry: Entry
    pair: Comparison
    p_holm: float
    fraction: float
    """of the gap, nan without a teacher's run"""
    interval: Interval
    published: float | None = None
    """gain in points, in the first row of its method"""

    @property
    def record(self) -> dict[str, object]:
        """Its columns in the table's data."""
        pair, (fired, flips) = self.pair, fired_rates(self.entry.run)
        return {
            "method": self.entry.label,
            "n": pair.n,
            "correct": 100 * pair.new_score,
            "delta": 100 * pair.delta,
            "low": 100 * pair.interval.low,
            "high": 100 * pair.interval.high,
            "published_delta": float("nan") if self.published is None else self.published,
            "won": len(pair.won),
            "lost": len(pair.lost),
            "p": pair.p,
            "p_holm": self.p_holm,
            "share_of_gap": 100 * self.fraction,
            "share_low": 100 * self.interval.low,
            "share_high": 100 * self.interval.high,
            "fired": 100 * fired,
            "flips": 100 * flips,
        }

    @property
    def cells(self) -> list[Cell]:
        """Its cells under `HEAD`."""
        pair = self.pair
        return [
            Cell(self.entry.label),
            Cell(str(pair.n)),
            Cell(percent(pair.new_score)),
            Cell(
                delta(pair.delta, pair.interval), None if self.published is None else f"{self.published:+.1f}"
            ),
            Cell(won_lost(pair)),
            Cell(p_value(self.p_holm)),
            Cell(share(self.fraction, self.interval)),
            *(Cell(percent_sign(rate)) for rate in fired_rates(self.entry.run)),
        ]


def ablation_table(
    entries: Sequence[Entry], *, other_limits: bool = False, with_published: bool = True
) -> Table | None:
    """Rows paired with their student's greedy run; None where no student has one with documents.

    The share of the gap is (accuracy - greedy's) / (the teacher's own - greedy's), with its interval. Runs
    that share no scored document with greedy, and those of which greedy decoding of the same student is
    missing or ambiguous, have no row; notes name them.

    Args:
        entries: runs in their places.
        other_limits: whether limits of new tokens may differ within a block.
        with_published: whether gains of published accuracies are shown, of published students.
    """
    blocks: list[Block] = []
    frames: list[pd.DataFrame] = []
    unpaired: list[str] = []
    without_control: list[str] = []
    every_pair: list[Comparison] = []
    for student, benchmark in dict.fromkeys((e.student, e.benchmark) for e in entries):
        part = [e for e in entries if (e.student, e.benchmark) == (student, benchmark)]
        part = [e for e in part if e.run.documents is not None]
        place = f"({student}, {benchmark.title})"
        by_control, lacking = _by_control(part)
        without_control += [f"{e.label} {place}" for e in lacking]
        teachers = [e for e in part if e.is_teacher]
        for control, others in by_control:
            rows, left_out = _rows(control, others, teachers, other_limits)
            unpaired += [f"{e.label} {place}" for e in left_out]
            if not rows:
                continue
            if with_published and is_of_default_metric(control.run):
                rows = _with_published(rows, published_gains(student, benchmark.key))
            every_pair += [row.pair for row in rows]
            columns = {"student": student, "benchmark": benchmark.title}
            frames.append(pd.DataFrame([{**columns, **row.record} for row in rows]))
            name = "greedy" if len(by_control) == 1 else control.label
            heading = f"{student}, {benchmark.title}: {name} {percent(rows[0].pair.base_score)} %"
            blocks.append(Block(heading, [row.cells for row in rows]))
    if not blocks:
        return None
    groups = sorted({e.run.task for e in entries if len(e.run.tasks) > 1})
    return Table(
        name="ablation",
        title="Gain over greedy decoding on the same documents",
        head=HEAD,
        blocks=blocks,
        notes=[
            f"Intervals are from a paired bootstrap; p is from {p_values_from(every_pair)}, with Holm's "
            "correction over the rows of a block. The share of the gap is the part of the difference between "
            "greedy and the teacher alone, where it was run. Fired and flips are shares of the generated "
            "tokens.",
            *([PUBLISHED] if any(frame["published_delta"].notna().any() for frame in frames) else []),
            *_left_out("no document has a score in the run and under greedy", unpaired),
            *_left_out("there is not one greedy run that is their student's", without_control),
            *(f"The scores of {task} are means over all documents of its tasks here." for task in groups),
        ],
        data=pd.concat(frames, ignore_index=True),
    )


def _by_control(entries: Sequence[Entry]) -> tuple[list[tuple[Entry, list[Entry]]], list[Entry]]:
    """Each control with the entries that are compared with it, and the entries without a control."""
    controls = {id(e): control_of(e, entries) for e in entries}
    lacking = [e for e in entries if controls[id(e)] is None and not e.is_control]
    by_control = [(e, [o for o in entries if controls[id(o)] is e]) for e in entries if e.is_control]
    return [(control, others) for control, others in by_control if others], lacking


def _rows(
    control: Entry, others: Sequence[Entry], teachers: Sequence[Entry], other_limits: bool
) -> tuple[list[_Row], list[Entry]]:
    """The rows of one control, and the entries that share no scored document with it."""
    paired, left_out = [], []
    for entry in others:
        try:
            paired.append((entry, compare_pair(control.run, entry.run, other_limits=other_limits)))
        except NoSharedScoreError:
            left_out.append(entry)
    adjusted = holm([pair.p for _, pair in paired])
    rows = [
        _Row(entry, pair, p, *_share_of_gap(control, entry, _teacher_of(entry, teachers)))
        for (entry, pair), p in zip(paired, adjusted, strict=True)
    ]
    return rows, left_out


def _with_published(rows: Sequence[_Row], gains: Mapping[str, float]) -> list[_Row]:
    """The rows, the first of each method with the published gain."""
    places = [(row.entry.label, row.entry.run.method.key) for row in rows]
    return [
        row._replace(published=gain) for row, gain in zip(rows, in_first_rows(places, gains), strict=True)
    ]


def _left_out(reason: str, labels: Sequence[str]) -> list[str]:
    return [f"Left out, because {reason}: {', '.join(labels)}."] if labels else []


def _teacher_of(entry: Entry, teachers: Sequence[Entry]) -> Entry | None:
    """The teacher alone of a row: the one that it was run with or distilled from; None for a teacher's row.

    The only one of the block stands for it in a row that names none, such as a vote's.
    """
    if entry.is_teacher:
        return None
    own = [one for one in teachers if is_of_teacher(entry.run, model_key(one.run))]
    is_known = teacher_of(entry.run) is not None or len(own) == 1
    return own[0] if own and is_known else None


def _share_of_gap(control: Entry, entry: Entry, teacher: Entry | None) -> tuple[float, Interval]:
    if teacher is None:
        return float("nan"), UNDEFINED
    base, new, full = paired_scores([control.run, entry.run, teacher.run])
    return share_of_gain(new, full, base)
