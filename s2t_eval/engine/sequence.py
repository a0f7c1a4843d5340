"""The state of one request in decoding: its tokens, fired steps, costs and random number generators."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from s2t_eval.engine.request import Finish, FiredStep, Request, Result, Usage
from s2t_eval.engine.stop import StopRule


@dataclass
class Sequence:
    """A request that is being decoded.

    Args:
        index: position of the request in the list that is decoded.
        request: prompt, limits and sampling.
        stop: when the text ends.
        num_observed: triggers whose divergence is recorded at every step.
    """

    index: int
    request: Request
    stop: StopRule
    num_observed: int = 0
    ids: list[int] = field(init=False)
    output: list[int] = field(default_factory=list)
    steps: list[FiredStep] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.ids = list(self.request.prompt_ids)
        self.observed: list[list[float]] = [[] for _ in range(self.num_observed)]
        self.tops: list[tuple[Tensor, Tensor]] = []
        # Two streams, so that a random trigger does not change what is sampled.
        self.token_numbers = random.Random(self.request.seed)
        self.trigger_numbers = random.Random(self.request.seed + 1)

    def append(self, token: int) -> Finish | None:
        """Append a token; returns why it ended the text, or None."""
        self.ids.append(token)
        self.output.append(token)
        self.usage.tokens += 1
        return self.stop.finish(self.output)

    def result(self, finish: Finish) -> Result:
        """The finished text."""
        self.usage.seconds = time.perf_counter() - self.started
        tops = [torch.stack(column) for column in zip(*self.tops, strict=True)]
        return Result(
            self.request, self.index, self.output, finish, self.steps, self.usage, self.observed, *tops
        )
