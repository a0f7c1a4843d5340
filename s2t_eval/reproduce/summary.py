"""The table that a reproduction ends with in the terminal; the report has the paper's tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from s2t_eval.method_table import BY_KEY
from s2t_eval.report.cells import MISSING, accuracy, p_value, percent_sign, won_lost
from s2t_eval.report.comparable import NoSharedScoreError
from s2t_eval.report.compare import Comparison, compare_pair, p_heading
from s2t_eval.report.costs import cut_off, fired_rates, tokens_per_correct
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from s2t_eval.reproduce.schema import Recipe
from s2t_eval.reproduce.stages import evaluations

LEFT = ("method",)
BEFORE_P = ("method", "correct", "95 %", "won / lost")
AFTER_P = ("fired", "flipped", "cut off", "tokens", "tokens / correct", "forwards / token", "scorer tokens",
           "teacher tokens", "tokens/s")  # fmt: skip
"""Columns on both sides of that of p, whose heading depends on the scores."""
UNLIMITED = 1000
"""Columns of a console on which every table has the width that it needs."""


def print_summary(recipe: Recipe, out: Path) -> None:
    """A table for each task: accuracy with its 95 % interval, paired against greedy, and what it cost."""
    for table in summary(recipe, out):
        print_whole(table)


def print_whole(table: Table) -> None:
    """Print a table without shortening a number, also where the terminal is narrower."""
    width = Console(width=UNLIMITED).measure(table).maximum
    Console(width=max(Console().width, width)).print(table)


def summary(recipe: Recipe, out: Path) -> list[Table]:
    """The tables, of the results that lie in the output folder."""
    tables = []
    for task in dict.fromkeys(part.task for part in recipe.tasks):
        rows = [run for run in evaluations(recipe) if run.task == task]
        runs = [(run.name, _read(out / "runs" / task / run.name), run.method) for run in rows]
        control = next((run for _, run, method in runs if is_control(recipe, method)), None)
        pairs = [_pair(run, control) for _, run, _ in runs]
        known = [pair for pair in pairs if pair is not None]
        table = summary_table(f"{task}, {recipe.title}, n = {runs[0][1].n}", known)
        for (name, run, method), pair in zip(runs, pairs, strict=True):
            label = recipe.methods[method].label or method
            seed = name.removeprefix(method).replace("-seed", ", seed ")
            table.add_row(*map(Text, (label + seed + _added_name(run, label), *_cells(run, pair))))
        tables.append(table)
    return tables


def summary_table(title: str, pairs: Sequence[Comparison]) -> Table:
    """An empty table. Its title is text, as its cells have to be: rich takes `[…]` in a string for markup.

    Args:
        title: of the table.
        pairs: the comparisons whose p the rows have; their heading is broken into short lines.
    """
    table = Table(title=Text(title))
    p = p_heading(pairs).replace(", ", ",\n").replace(" or ", " or\n")
    for name in (*BEFORE_P, p, *AFTER_P):
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
    return table


def is_control(recipe: Recipe, method: str) -> bool:
    """Whether a method is the student alone, decoded greedily."""
    part = recipe.methods[method]
    return part.model == "greedy" and not {"pretrained", "peft"} & part.arguments.keys()


def _read(folder: Path) -> Run:
    [run] = read_runs([folder])
    return run


def _added_name(run: Run, label: str) -> str:
    """The method's own name where `--model` has another: s2t_local with the form `direct` selects nothing."""
    title = run.method.title
    has_another = run.method is BY_KEY["topk_distilled"] and title.lower() not in label.lower()
    return f" ({title})" if has_another else ""


def _pair(run: Run, control: Run | None) -> Comparison | None:
    """A run against the control; None for the control itself, and without a document scored in both."""
    if control is not None and run is not control:
        with suppress(NoSharedScoreError):
            return compare_pair(control, run)
    return None


def _cells(run: Run, pair: Comparison | None) -> Iterable[str]:
    score, cost = accuracy(run), run.cost
    paired = [MISSING, MISSING] if pair is None else [won_lost(pair), p_value(pair.p)]
    yield from (percent_sign(score.value), score.interval_text, *paired)
    for share in (*fired_rates(run), cut_off([run])):
        yield MISSING if math.isnan(share) else percent_sign(share)
    yield _count(cost.get("tokens"))
    yield _count(tokens_per_correct([run]))
    yield f"{cost['forwards_per_token']:.2f}" if "forwards_per_token" in cost else MISSING
    yield _count(cost.get("scorer_tokens"))
    yield _count(cost.get("teacher_tokens"))
    yield _count(cost.get("tokens_per_second") or None)


def _count(number: float | None) -> str:
    """A whole number; a dash where it is unknown, or is none, as the tokens of no correct answer are."""
    return f"{number:,.0f}" if number is not None and math.isfinite(number) else MISSING
