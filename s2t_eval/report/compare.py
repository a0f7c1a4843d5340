"""Two sets of runs, paired document by document: what got better or worse, and whether it is noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

import pandas as pd

from s2t_eval.report.comparable import NotComparableError, differences, pairing_keys
from s2t_eval.report.runs import ALTERNATIVE, Run
from s2t_eval.statistics import (
    Interval,
    detectable_effect,
    holm,
    paired_bootstrap,
    paired_p,
)

COSTS = ("tokens", "forwards_per_token", "teacher_calls", "teacher_tokens")


class Verdict(Enum):
    """Of one row."""

    SAME = "✅ within noise"
    BETTER = "✅ better"
    DOUBT = "⚠️ lower, within noise"
    REGRESSION = "❌ regression"


@dataclass(frozen=True)
class Rules:
    """When a difference counts.

    Args:
        threshold: a regression is a loss of more than this, as a fraction.
        alpha: and has a Holm-adjusted p-value of at most this.
        cost: a cost regression is a growth of a cost by more than this fraction.
    """

    threshold: float = 0.0
    alpha: float = 0.05
    cost: float = 0.05


@dataclass(frozen=True)
class Comparison:
    """One task of one method, base against new; scores as fractions, better is larger.

    `won` and `lost` name document ids; `unscored` counts pairs in which a side has no score, which are
    left out; `changed` counts documents whose generated text is another; `costs` are those that are known
    of both.
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
    changed: int
    costs: dict[str, tuple[float, float]]
    verdict: Verdict = Verdict.SAME
    dearer: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Plain JSON values; what is undefined is null."""
        values = asdict(self)
        values["verdict"] = self.verdict.name.lower()
        values["interval"] = [_plain(bound) for bound in self.interval]
        values["detectable"] = _plain(self.detectable)
        return values


def _plain(value: float) -> float | None:
    return None if value != value else value


def compare(base: Sequence[Run], new: Sequence[Run], rules: Rules | None = None) -> list[Comparison]:
    """Compare every task and method that the baseline has.

    A baseline of one run of a task is compared with each new run of it, whatever their methods; else
    runs of the same method and settings are compared.

    Raises:
        NotComparableError: nothing to compare, a run of the baseline without a counterpart, or a pair
            whose task version, documents, prompts, n or limits differ.
    """
    rules = rules or Rules()
    rows = [compare_pair(one, other) for one, other in match(base, new)]
    adjusted = holm([row.p for row in rows])
    return [_judge(replace(row, p_holm=p), rules) for row, p in zip(rows, adjusted, strict=True)]


def match(base: Sequence[Run], new: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Which run is compared with which."""
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in base:
        by_task[run.task].append(run)
    pairs: list[tuple[Run, Run]] = []
    for task, runs in by_task.items():
        candidates = [run for run in new if run.task == task]
        if not candidates:
            raise NotComparableError(f"task {task}: the baseline has it, the new results do not")
        if len(runs) == 1:
            pairs += [(runs[0], run) for run in candidates]
        else:
            pairs += [(run, _counterpart(run, runs, candidates)) for run in runs]
    return pairs


def _counterpart(run: Run, base: Sequence[Run], candidates: Sequence[Run]) -> Run:
    """The one new run of this method and settings; of this model too where the baseline has several."""
    alike = [other for other in candidates if _kind(other) == _kind(run)]
    if sum(_kind(other) == _kind(run) for other in base) > 1 or len(alike) > 1:
        alike = [other for other in alike if other.model == run.model]
    if len(alike) > 1:
        alike = [other for other in alike if other.name == run.name]
    if len(alike) != 1:
        there = "; ".join(f"{other.name} ({other.label}, {other.model})" for other in candidates)
        raise NotComparableError(
            f"task {run.task}: the baseline's {run.name} ({run.label}, {run.model}) has no counterpart among "
            f"the new runs: {there}"
        )
    return alike[0]


def _kind(run: Run) -> tuple[object, ...]:
    return (run.method, run.settings)


def compare_pair(base: Run, new: Run) -> Comparison:
    """Pair documents by document and prompt hash; raises `NotComparableError` where they differ."""
    found = differences(base, new, need_documents=True)
    if found:
        raise NotComparableError(f"{base.source} and {new.source} are not comparable: {'; '.join(found)}")
    assert base.documents is not None and new.documents is not None
    paired = _indexed(base.documents).join(_indexed(new.documents), suffixes=("_base", "_new"))
    both = paired[paired["score_base"].notna() & paired["score_new"].notna()]
    if both.empty:
        raise NotComparableError(f"{base.source} and {new.source}: no document has a score in both")
    sign = 1.0 if base.is_higher_better else -1.0
    old, now = sign * both["score_base"].to_numpy(), sign * both["score_new"].to_numpy()
    p = paired_p(now, old)
    won, lost = (both.loc[is_it, "doc_id_base"].tolist() for is_it in (now > old, now < old))
    return Comparison(
        task=base.task,
        base=f"{base.name}: {base.label}",
        new=f"{new.name}: {new.label}",
        n=len(both),
        base_score=float(both["score_base"].mean()),
        new_score=float(both["score_new"].mean()),
        delta=float((now - old).mean()),
        interval=paired_bootstrap(now, old),
        p=p,
        p_holm=p,
        detectable=detectable_effect(len(both), len(won), len(lost)),
        won=won,
        lost=lost,
        unscored=len(paired) - len(both),
        changed=sum(map(_is_other_text, paired["output_hash_base"], paired["output_hash_new"])),
        costs={k: (base.cost[k], new.cost[k]) for k in COSTS if k in base.cost and k in new.cost},
    )


def _is_other_text(base: str, new: str) -> bool:
    """Whether two texts differ; a baseline may hold several hashes where rounding decides between texts."""
    return not set(base.split(ALTERNATIVE)) & set(new.split(ALTERNATIVE))


def _indexed(documents: pd.DataFrame) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(pairing_keys(documents))
    return documents.set_index(index)[["doc_id", "output_hash", "score"]]


def _judge(row: Comparison, rules: Rules) -> Comparison:
    is_significant = row.p_holm <= rules.alpha
    if row.delta < -rules.threshold:
        verdict = Verdict.REGRESSION if is_significant else Verdict.DOUBT
    else:
        verdict = Verdict.BETTER if row.delta > 0 and is_significant else Verdict.SAME
    dearer = [name for name, (old, now) in row.costs.items() if now > old * (1 + rules.cost)]
    return replace(row, verdict=verdict, dearer=dearer)


def failures(rows: Sequence[Comparison], fail_on: Sequence[str]) -> list[str]:
    """Why the comparison fails, a line each; empty where it passes.

    Args:
        rows: the comparisons.
        fail_on: `regression` (score), `cost` (a cost grew too much), `change` (any text, score or count
            differs: for runs that are deterministic).

    Raises:
        NotComparableError: `cost` where a run does not tell what it cost.
    """
    found = []
    for row in rows:
        if "cost" in fail_on and not row.costs:
            raise NotComparableError(
                f"task {row.task}: what {row.base} or {row.new} cost is unknown (another backend, or a run "
                "that took texts from a cache); leave out --fail-on cost, or run it again"
            )
    for row in rows:
        name = f"{row.task}, {row.new}"
        if "regression" in fail_on and row.verdict is Verdict.REGRESSION:
            found.append(f"{name}: {100 * row.delta:+.1f} points, p {row.p_holm:.2g}")
        if "cost" in fail_on and row.dearer:
            grown = (f"{k} {row.costs[k][0]:,.6g} to {row.costs[k][1]:,.6g}" for k in row.dearer)
            found.append(f"{name}: costs more: {', '.join(grown)}")
        if "change" in fail_on:
            counts = [k for k, (old, now) in row.costs.items() if old != now]
            if row.changed or row.won or row.lost or counts:
                texts = f"{row.changed} of {row.n + row.unscored} texts"
                found.append(f"{name}: changed: {', '.join([texts, *counts])}")
    return found
