"""Decoding with branches for K candidates, relative to greedy decoding: seconds per token."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from benchmarks.decoding import (
    ClockedModel,
    Run,
    compare,
    decode,
    load_student,
    make_requests,
    warm_up,
)
from benchmarks.ratios import Ratio, Target, alternate
from benchmarks.workload import TAUS, Settings
from s2t_eval.engine import Decoder, Request
from s2t_eval.selection.policy import Policy, greedy
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import LookaheadScore
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import RandomTrigger

BINS = 16
NEW_TOKENS = 100
TARGETS = {1: Target(1.10), 32: Target(1.25)}
TARGET_RATE = 0.01


def measure(settings: Settings) -> list[Ratio]:
    """Return one ratio per trigger rate and batch size; greedy decoding is measured in the same rounds."""
    student, tokenizer = load_student(settings)
    ratios = []
    for batch in sorted({1, settings.batch}):
        new_tokens = settings.new_tokens or NEW_TOKENS
        requests = make_requests(settings, tokenizer, batch, new_tokens)
        ratios += measure_batch(settings, student, requests)
    return ratios


def measure_batch(settings: Settings, student: ClockedModel, requests: list[Request]) -> list[Ratio]:
    """The ratios for one batch size; all requests are decoded at once."""
    batch = len(requests)
    plain = Decoder(student, greedy(), rows=batch)
    warm_up(plain, requests)
    sides: dict[str, Callable[[], Run]] = {"greedy": partial(decode, plain, requests)}
    for tau in settings.taus or TAUS:
        decoder = Decoder(student, branching(student, tau, settings.top_k), rows=batch)
        warm_up(decoder, requests)
        sides[f"tau {tau:g}"] = partial(decode, decoder, with_rate(requests, tau))
    runs = alternate(sides, settings.repeats)
    base = runs.pop("greedy")
    return [
        compare(
            f"branch K {settings.top_k}, {side}, batch {batch}",
            side_runs,
            base,
            TARGETS.get(batch) if tau == TARGET_RATE else None,
            base_forwards_per_token=base[0].forwards / base[0].tokens,
        )
        for (side, side_runs), tau in zip(runs.items(), settings.taus or TAUS, strict=True)
    ]


def branching(student: ClockedModel, tau: float, top_k: int) -> Policy:
    """A policy with random trigger of rate `tau` and random selection: its cost needs no trained weights."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(BINS, student.config.hidden_size, generator=generator)
    readout = Readout(weight.to(student.device, student.base.dtype))
    return Policy("branch", RandomTrigger(), 1 - tau, LocalSelector(LookaheadScore(readout)), top_k)


def with_rate(requests: list[Request], tau: float, tries: int = 1000) -> list[Request]:
    """The requests with seeds for which the realised trigger rate is closest to `tau`.

    A short run has few steps, so with arbitrary seeds a rate of 0.01 varies between 0 and twice its value.
    """
    target = tau * sum(request.max_new_tokens for request in requests)

    def deviation(first: int) -> float:
        return abs(sum(_fires(r, first + i, tau) for i, r in enumerate(requests)) - target)

    first = min((attempt * len(requests) for attempt in range(tries)), key=deviation)
    return [replace(request, seed=first + i) for i, request in enumerate(requests)]


def _fires(request: Request, seed: int, tau: float) -> int:
    # The same draws as in the engine; `realised_rate` in the details verifies this.
    numbers = random.Random(seed + 1)
    return sum(numbers.random() > 1 - tau for _ in range(request.max_new_tokens))
