"""Chooses the default of a selector: the trigger, rate and weight with the most correct answers.

Training chooses by the gain in the teacher's log-probability, which needs no decoding. Correct answers on
development problems are a better criterion, but they need a scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.methods.selector_info import Proposer, ProposerDefault, SelectorError, SelectorInfo, read_info
from s2t_eval.report.benchmarks import DEV
from s2t_eval.report.comparable import require_comparable
from s2t_eval.report.computed import model_arguments
from s2t_eval.report.run import Run

NOT_IN_A_DEFAULT = ("calibration", "router", "threshold", "warmup_tokens")
"""Arguments of a run that move its threshold or its steps away from the selector's own."""


class Chosen(NamedTuple):
    """The runs that were compared, and the resulting default."""

    ranked: list[Run]
    """best first"""
    info: SelectorInfo
    """the selector's entries, with the best run's settings as the default of the runs' proposer"""


def choose(folder: Path, runs: Sequence[Run], proposer: Proposer = "base") -> Chosen:
    """The best of this selector's runs on one development task; of equal ones, the one that fires least.

    Args:
        folder: of the selector.
        runs: of any method; those of other methods and selectors are ignored.
        proposer: whose runs are compared.

    Raises:
        SelectorError: fewer than two runs of this selector, runs without a rate, of another K, or on
            problems that are not for development.
        NotComparableError: runs on different problems, prompts or limits.
    """
    info = read_info(folder)
    # A folder's hash changes with its default; runs made with an earlier default still belong to it.
    earlier = (run for default in info.defaults.values() for run in default.runs_of)
    known = {folder_hash(folder), *earlier}
    local = [run for run in runs if run.method.selects_locally and run.settings.proposer == proposer]
    own = [run for run in local if run.settings.checkpoint in known]
    if len(own) < 2:
        raise SelectorError(
            f"selector={folder}: expected at least two runs of it with proposer={proposer} to choose from, "
            f"got {len(own)} (and {len(local) - len(own)} of other selectors); `s2t-eval scan --model "
            "pps_local --tasks s2t_gsm8k_dev` makes some"
        )
    for run in own:
        _require_usable(run, info)
    require_comparable(own, f"selector={folder}")
    sign = -1 if own[0].is_higher_better else 1
    ranked = sorted(own, key=lambda run: (sign * run.value, run.cost.get("realised_rate", math.inf)))
    best = ranked[0]
    assert best.settings.trigger is not None  # `_require_usable` has checked it
    chosen = ProposerDefault(
        best.settings.trigger,
        best.settings.tau,
        f"answers to {best.n} problems of {best.task}",
        tuple(sorted(known)),
    )
    if proposer == "base":
        info = replace(info, proposal_weight=best.settings.proposal_weight or 0.0)
    else:
        scale = best.settings.adapter_scale
        info = replace(info, adapter_scale=1.0 if scale is None else scale)
    return Chosen(ranked, replace(info, defaults={**info.defaults, proposer: chosen}))


def _require_usable(run: Run, info: SelectorInfo) -> None:
    """Raise `SelectorError` unless a run's settings may become a default."""
    settings = run.settings
    if not run.task.endswith(DEV):
        raise SelectorError(
            f"{run.source}: it is of task {run.task}; settings are chosen on development problems alone "
            f"(s2t_gsm8k{DEV}, s2t_arith{DEV}, or a task of your own whose name ends in {DEV})"
        )
    if settings.trigger_name == "kl" or (settings.trigger != "always" and settings.tau is None):
        raise SelectorError(
            f"{run.source}: {run.label} cannot become a default: it takes a trigger that needs no teacher "
            "and a rate (tau=), or trigger=always"
        )
    if settings.top_k != info.top_k:
        raise SelectorError(f"{run.source}: it ran with K {settings.top_k}, the selector's is {info.top_k}")
    _require_reproducible(run, info)


def _require_reproducible(run: Run, info: SelectorInfo) -> None:
    """Raise `SelectorError` unless the selector's own thresholds and settings give what the run measured."""
    settings = run.settings
    arguments = model_arguments(run.results["config"])
    other = [name for name in NOT_IN_A_DEFAULT if arguments.get(name)]
    if settings.proposer == "base" and settings.adapter_scale not in (None, 1.0):
        other.append("adapter_scale")
    if settings.proposer == "tuned" and settings.proposal_weight:
        other.append("proposal_weight")
    if other:
        raise SelectorError(
            f"{run.source}: {run.label} cannot become a default: it ran with {', '.join(other)}, which a "
            "default does not have; evaluate without, with the selector's own thresholds"
        )
    if settings.trigger == "always":
        return
    thresholds = info.thresholds.get(settings.proposer or "", {})
    rates = [
        rate for key, known in thresholds.items() if key.split(":")[0] == settings.trigger for rate in known
    ]
    if not any(math.isclose(float(rate), settings.tau or 0.0) for rate in rates):
        raise SelectorError(
            f"{run.source}: {run.label} cannot become a default: the selector has no threshold of "
            f"{settings.trigger} at that rate under proposer={settings.proposer} (it has "
            f"{', '.join(rates) or 'none'})"
        )
