"""Two sets of runs, paired document by document: differences in score and cost, with paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd

from s2t_eval.report.comparable import NoSharedScoreError, NotComparableError, differences, pairing_keys
from s2t_eval.report.compared_costs import compared_costs
from s2t_eval.report.counterparts import match
from s2t_eval.report.documents import ALTERNATIVE, same_scores
from s2t_eval.report.run import Run
from s2t_eval.statistics import (
    Interval,
    Scores,
    are_right_or_wrong,
    detectable_effect,
    holm,
    paired_bootstrap,
    paired_p,
)

PERMUTATION_TEST = ("permutation", "a sign-flip permutation test")
MCNEMAR_TEST = ("McNemar", "the exact McNemar test")
"""Short and full names of the tests of `paired_p`."""


class Verdict(Enum):
    """The outcome of one comparison."""

    SAME = "✅ within noise"
    BETTER = "✅ better"
    LOWER = "⚠️ lower, within noise"
    REGRESSION = "❌ regression"


@dataclass(frozen=True)
class Rules:
    """When a difference is a regression.

    Args:
        threshold: a regression is a loss of more than this, as a fraction, and
        alpha: its p-value, adjusted by Holm's method, is at most this.
        cost: a cost regression is an increase of a cost by more than this fraction.
    """

    threshold: float = 0.0
    alpha: float = 0.05
    cost: float = 0.05


@dataclass(frozen=True)
class Comparison:
    """One task of one method, base against new; scores as fractions, better is larger.

    `won` and `lost` are document ids; `unscored` counts the pairs in which one document has no score, which
    are left out, `newly_unscored` those that have one in the base alone, and `newly_scored` those that have
    one in the new run alone; `changed` counts documents whose generated text differs; `costs` are those
    known for both runs, and `increased_costs` the names of those that grew by more than `Rules.cost`. The
    costs of a results file are those of all of its tasks: `other_tasks` names them where the two files hold
    different ones, whose costs are not compared. `timed_costs` are those of `costs` that depend on the speed
    of the machine: they are no reason to fail. `num_tasks` is that of a group, whose scores here are means
    over all documents. `metric` is lm_eval's, with its filter. `is_graded` says that scores lie between right
    and wrong, as the means of several responses do: p is then from a permutation test, whose detectable
    difference is unknown (nan).
    """

    task: str
    base: str
    new: str
    n: int
    base_score: float
    new_score: float
    delta: float
    interval: Interval
    p: float
    p_holm: float
    detectable: float
    won: list[int]
    lost: list[int]
    unscored: int
    newly_unscored: int
    newly_scored: int
    changed: int
    costs: dict[str, tuple[float, float]]
    other_tasks: str | None = None
    timed_costs: list[str] = field(default_factory=list)
    num_tasks: int = 1
    metric: str = ""
    is_graded: bool = False
    verdict: Verdict = Verdict.SAME
    increased_costs: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Plain JSON values; an undefined number is null."""
        values = asdict(self)
        values["verdict"] = self.verdict.name.lower()
        values["interval"] = [_json_number(bound) for bound in self.interval]
        values["detectable"] = _json_number(self.detectable)
        return values


def _json_number(value: float) -> float | None:
    return None if value != value else value


def compare(base: Sequence[Run], new: Sequence[Run], rules: Rules | None = None) -> list[Comparison]:
    """Compare every task and method that the baseline has.

    Where the baseline has one run of a task, every new run of that task is compared with it, whatever its
    method. Otherwise runs of the same method and settings are compared.

    Raises:
        NotComparableError: nothing to compare, a run of the baseline without a counterpart, or a pair
            whose task version, documents, prompts, right answers, n or limits differ.
    """
    rules = rules or Rules()
    rows = [compare_pair(one, other, alpha=rules.alpha) for one, other in match(base, new)]
    adjusted = holm([row.p for row in rows])
    return [_with_verdict(replace(row, p_holm=p), rules) for row, p in zip(rows, adjusted, strict=True)]


def compare_pair(
    base: Run, new: Run, *, other_limits: bool = False, alpha: float = Rules.alpha
) -> Comparison:
    """Pair documents by document and prompt hash.

    Args:
        base, new: the runs, with documents.
        other_limits: whether the limits of new tokens may differ.
        alpha: the largest p-value at which a difference counts as detected.

    Raises:
        NotComparableError: the runs differ in more than the method.
        NoSharedScoreError: no document has a score in both.
    """
    differing = differences(base, new, need_documents=True, other_limits=other_limits)
    if differing:
        raise NotComparableError(f"{base.source} and {new.source} are not comparable: {'; '.join(differing)}")
    assert base.documents is not None and new.documents is not None
    paired = _indexed(base.documents).join(_indexed(new.documents), suffixes=("_base", "_new"))
    in_base, in_new = paired["score_base"].notna(), paired["score_new"].notna()
    both = paired[in_base & in_new]
    if both.empty:
        raise NoSharedScoreError(f"{base.source} and {new.source}: no document has a score in both")
    sign = 1.0 if base.is_higher_better else -1.0
    base_scores, new_scores = sign * both["score_base"].to_numpy(), sign * both["score_new"].to_numpy()
    base_scores = np.where(same_scores(base_scores, new_scores), new_scores, base_scores)
    p = paired_p(new_scores, base_scores)
    costs = compared_costs(base, new)
    is_graded = not are_right_or_wrong(np.concatenate([new_scores, base_scores]))
    changes = (new_scores > base_scores, new_scores < base_scores)
    won, lost = (both.loc[is_changed, "doc_id_base"].tolist() for is_changed in changes)
    return Comparison(
        task=base.task,
        base=f"{base.name}: {base.label}",
        new=f"{new.name}: {new.label}",
        n=len(both),
        base_score=float(both["score_base"].mean()),
        new_score=float(both["score_new"].mean()),
        delta=float((new_scores - base_scores).mean()),
        interval=paired_bootstrap(new_scores, base_scores),
        p=p,
        p_holm=p,
        detectable=float("nan") if is_graded else detectable_effect(len(both), len(won), len(lost), alpha),
        won=won,
        lost=lost,
        unscored=len(paired) - len(both),
        newly_unscored=int((in_base & ~in_new).sum()),
        newly_scored=int((in_new & ~in_base).sum()),
        changed=sum(map(_texts_differ, paired["output_hash_base"], paired["output_hash_new"])),
        costs=costs.pairs,
        other_tasks=costs.other_tasks,
        timed_costs=costs.timed,
        num_tasks=len(base.tasks),
        metric=f"{base.metric},{base.filter}",
        is_graded=is_graded,
    )


def p_values_from(pairs: Sequence[Comparison]) -> str:
    """The tests that the p-values of these comparisons, at least one, are from."""
    names = [name for _, name in _tests(pairs)]
    return ", or ".join(names) + (" where scores lie between right and wrong" if len(names) > 1 else "")


def p_heading(pairs: Sequence[Comparison]) -> str:
    """The heading of a column of the p-values of these comparisons, which names their tests in short.

    The values are those of `Comparison.p`, without a correction over the rows.
    """
    tests = " or ".join(short for short, _ in _tests(pairs))
    return f"p ({tests}, uncorrected)" if tests else "p (uncorrected)"


def _tests(pairs: Sequence[Comparison]) -> list[tuple[str, str]]:
    """The names of the tests that these comparisons used."""
    kinds = sorted({pair.is_graded for pair in pairs})
    return [PERMUTATION_TEST if is_graded else MCNEMAR_TEST for is_graded in kinds]


def paired_scores(runs: Sequence[Run]) -> list[Scores]:
    """The scores of the documents that have one in every run, larger is better, in one order.

    Args:
        runs: with documents, comparable ones.

    Returns:
        A vector [n] for each run; n is 0 where no document has a score in all of them.
    """
    tables = [_indexed(run.documents)["score"] for run in runs if run.documents is not None]
    assert len(tables) == len(runs)
    joined = pd.concat(tables, axis=1, join="inner").dropna().to_numpy()
    signs = [1.0 if run.is_higher_better else -1.0 for run in runs]
    return [sign * column for sign, column in zip(signs, joined.T, strict=True)]


def _texts_differ(base: str, new: str) -> bool:
    """Whether two texts differ; a baseline may have several hashes where rounding decides between texts."""
    return not set(base.split(ALTERNATIVE)) & set(new.split(ALTERNATIVE))


def _indexed(documents: pd.DataFrame) -> pd.DataFrame:
    # `from_tuples` cannot make an index of no documents.
    keys = pd.DataFrame(pairing_keys(documents), columns=["doc_hash", "prompt_hash", "repeat"])
    return documents.set_index(pd.MultiIndex.from_frame(keys))[["doc_id", "output_hash", "score"]]


def _with_verdict(row: Comparison, rules: Rules) -> Comparison:
    is_significant = row.p_holm <= rules.alpha
    if row.delta < -rules.threshold:
        verdict = Verdict.REGRESSION if is_significant else Verdict.LOWER
    else:
        verdict = Verdict.BETTER if row.delta > 0 and is_significant else Verdict.SAME
    increased_costs = [k for k, (base, new) in _gated_costs(row).items() if new > base * (1 + rules.cost)]
    return replace(row, verdict=verdict, increased_costs=increased_costs)


def _gated_costs(row: Comparison) -> dict[str, tuple[float, float]]:
    """The costs that another run of the same thing has too."""
    return {name: pair for name, pair in row.costs.items() if name not in row.timed_costs}


def failures(rows: Sequence[Comparison], fail_on: Sequence[str]) -> list[str]:
    """The reasons for which the comparison fails, one line each; empty where it passes.

    Args:
        rows: the comparisons.
        fail_on: `regression` (of the score, or a document that has none any more, whose loss no test can
            weigh), `cost` (a cost increased by more than the rules allow), `change` (any text, score or count
            differs: for deterministic runs). Costs that depend on the machine's speed are no reason.

    Raises:
        NotComparableError: `cost` where the costs of a run are unknown, or of other tasks too.
    """
    reasons = []
    for row in rows:
        if "cost" in fail_on and row.other_tasks:
            raise NotComparableError(
                f"task {row.task}: the costs of a results file are those of all of its tasks, and these "
                f"files hold different ones (documents in parentheses): {row.other_tasks}; run the same "
                "tasks with one command, or leave out --fail_on cost"
            )
        if "cost" in fail_on and not row.costs:
            raise NotComparableError(
                f"task {row.task}: the cost of {row.base} or of {row.new} is unknown (another backend, or "
                "a run that took texts from a cache); leave out --fail_on cost, or run it again"
            )
    for row in rows:
        name = f"{row.task}, {row.new}"
        if "regression" in fail_on and row.verdict is Verdict.REGRESSION:
            reasons.append(f"{name}: {100 * row.delta:+.1f} points, p {row.p_holm:.2g}")
        if "regression" in fail_on and row.newly_unscored:
            reasons.append(
                f"{name}: {row.newly_unscored} of {row.n + row.unscored} documents have a score in the base "
                "and none in the new run"
            )
        if "cost" in fail_on and row.increased_costs:
            increases = (f"{k} {row.costs[k][0]:,.6g} to {row.costs[k][1]:,.6g}" for k in row.increased_costs)
            reasons.append(f"{name}: costs more: {', '.join(increases)}")
        if "change" in fail_on:
            counts = [k for k, (base, new) in _gated_costs(row).items() if base != new]
            other_scores = len(row.won) + len(row.lost) + row.newly_unscored + row.newly_scored
            if row.changed or other_scores or counts:
                texts = f"{row.changed} of {row.n + row.unscored} texts"
                scores = [f"{other_scores} scores"] if other_scores else []
                reasons.append(f"{name}: changed: {', '.join([texts, *scores, *counts])}")
    return reasons
