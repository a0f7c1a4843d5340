"""S2T-Local and PPS relative to greedy: decoding seconds per token, including router and residual score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from benchmarks.branch import BINS, NEW_TOKENS, with_rate
from benchmarks.decoding import ClockedModel, Run, compare, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, Target, alternate
from benchmarks.workload import TAUS, Settings
from s2t_eval.engine import Decoder, ModelRunner
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.selection import policy
from s2t_eval.selection.policy import Policy, greedy
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.router import Router
from s2t_eval.selection.scores import ResidualScore
from s2t_eval.selection.step import StepView
from s2t_eval.selection.triggers import RouterTrigger

TARGETS = {
    "s2t_local": {1: Target(1.10), 32: Target(1.25)},
    "pps_local": {1: Target(1.35), 32: Target(1.6)},
}
TARGET_RATE = 0.01
RANK = 16


@dataclass(frozen=True)
class RoutedAtRandom:
    """A trigger that evaluates the router at every step but fires at random, so that the rate is exact."""

    router: RouterTrigger
    name: str = "router"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Return uniform random numbers [batch] after evaluating the router."""
        self.router.divergence(step)
        return step.draw()


def measure(settings: Settings) -> list[Ratio]:
    """Return one ratio per proposer, trigger rate and batch size; greedy is measured in the same rounds.

    All sides share one model with a disabled adapter, so that `greedy` and `s2t_local`, whose adapter the
    backend merges, have the same small overhead. `pps_local` enables it for scoring.
    """
    student, tokenizer = load_student(settings)
    config = LoraConfig(r=RANK, target_modules="all-linear")
    # the student's precision, as in the backend
    peft = get_peft_model(student.base, config, autocast_adapter_dtype=False).eval()
    layers: Any = peft.base_model
    layers.disable_adapter_layers()
    scorer = ModelRunner(student.base, "scorer", student.text_vocab, AdapterSwitch(peft))
    new_tokens = settings.new_tokens or NEW_TOKENS
    ratios = []
    for batch in sorted({1, settings.batch}):
        requests = make_requests(settings, tokenizer, batch, new_tokens)
        for tau in settings.taus or TAUS:
            chosen = selecting(student, tau, settings.top_k)
            fired = with_rate(requests, tau)
            plain = Decoder(student, greedy(), rows=batch)
            local = Decoder(student, chosen, rows=batch)
            pps = Decoder(student, chosen, rows=batch, scorer=scorer)
            for decoder in (plain, local, pps):
                warm_up(decoder, requests)
            sides: dict[str, Callable[[], Run]] = {
                "greedy": partial(decode, plain, requests),
                "s2t_local": partial(decode, local, fired),
                "pps_local": partial(decode, pps, fired),
            }
            runs = alternate(sides, settings.repeats)
            base = runs.pop("greedy")
            ratios += [
                compare(
                    f"{side}, tau {tau:g}, K {settings.top_k}, batch {batch}",
                    side_runs,
                    base,
                    TARGETS[side].get(batch) if tau == TARGET_RATE else None,
                )
                for side, side_runs in runs.items()
            ]
    return ratios


def selecting(student: ClockedModel, tau: float, top_k: int) -> Policy:
    """A residual score over random reserved rows, with a router that is evaluated at every step."""
    generator = torch.Generator().manual_seed(0)
    hidden = int(student.config.hidden_size)
    weight = torch.randn(BINS, hidden, generator=generator).to(student.device, student.base.dtype)
    return policy.s2t_local(
        routed_at_random(student), 1 - tau, ResidualScore(Readout(weight, "log_odds")), top_k
    )


def routed_at_random(student: ModelRunner) -> RoutedAtRandom:
    """A trigger with an untrained router of the student's width."""
    router = Router(int(student.config.hidden_size)).eval().to(student.device)
    return RoutedAtRandom(RouterTrigger(router))
