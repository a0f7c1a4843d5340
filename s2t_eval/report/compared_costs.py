"""The costs of two runs: those that are known for both, and those that depend on the machine's speed."""

from __future__ import annotations

from typing import NamedTuple

from s2t_eval.report.computed import model_arguments
from s2t_eval.report.costs import evaluated
from s2t_eval.report.json_files import part_of
from s2t_eval.report.run import Run

COSTS = (
    "tokens",
    "forwards_per_token",
    "prefill_tokens",
    "teacher_calls",
    "teacher_tokens",
    "teacher_generated",
    "teacher_prefilled",
    "scorer_calls",
    "scorer_tokens",
    "discarded_tokens",
    "rejected_steps",
    "evaluation_tokens",
)
"""Counts of the telemetry, and the passes a token."""
TIMED_COSTS = (
    "forwards_per_token",
    "prefill_tokens",
    "teacher_calls",
    "teacher_tokens",
    "teacher_prefilled",
    "discarded_tokens",
)
"""Those that depend on how fast the machine is, where the lengths of a teacher's chunks do (`_is_timed`)."""
VERIFYING = ("s2t", "takeover")
"""Backends with an argument `verify`."""


class ComparedCosts(NamedTuple):
    """The costs of two runs."""

    pairs: dict[str, tuple[float, float]]
    """those that are known for both, base first; none where the files are of other tasks"""
    timed: list[str]
    """names of those that depend on the machine's speed"""
    other_tasks: str | None
    """the tasks of the two files, where they are not the same; their costs are those of all tasks together"""


def compared_costs(base: Run, new: Run) -> ComparedCosts:
    """The costs of two runs, as far as they can be compared."""
    other_tasks = _other_tasks(base, new)
    names = () if other_tasks is not None else COSTS
    known = [name for name in names if name in base.cost and name in new.cost]
    is_measured = _is_timed(base) or _is_timed(new)
    return ComparedCosts(
        {name: (base.cost[name], new.cost[name]) for name in known},
        [name for name in known if is_measured and name in TIMED_COSTS],
        other_tasks,
    )


def _is_timed(run: Run) -> bool:
    """Whether a teacher verified chunks whose lengths `verify=auto` took from measured times.

    The same run then has other counts of the teacher's calls and tokens, and of forward passes. Results of
    versions without `verify` cannot be told apart. Servers' chunks have one length.
    """
    config = run.results["config"]
    reads_every_token = part_of(part_of(run.backend_info, "policy"), "trigger").get("needs_teacher")
    if config.get("model") not in VERIFYING or not reads_every_token or run.backend_info.get("servers"):
        return False
    return str(model_arguments(config).get("verify", "auto")) == "auto"


def _other_tasks(base: Run, new: Run) -> str | None:
    """The tasks of two results files, where they are not the same ones on as many documents; else None."""
    if evaluated(base) == evaluated(new):
        return None
    return " against ".join(
        ", ".join(f"{task} ({n})" for task, (n, _) in evaluated(run).items()) for run in (base, new)
    )
