"""What RLKD costs: tokens, text visits and seconds, counted between two evaluations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

import torch
from accelerate.utils import reduce

from s2t_eval.training.processes import all_processes


@dataclass
class Cost:
    """Costs since the last evaluation, of one process.

    Args:
        generated_tokens: tokens of the samples.
        prompt_tokens: prompt tokens that the student computed in order to generate.
        evaluation_tokens: tokens of greedy texts on held-out problems.
        text_visits: texts of all forward and backward passes.
        unscored_texts: samples without a structure reward.
        groups: groups of samples.
        equal_groups: groups whose texts all have the same reward, from which nothing is learnt.
        reward_sum: sum of the samples' rewards.
        seconds_sampling: seconds in which samples were generated.
        seconds_reward: seconds in which they were rewarded.
        judge_generated: tokens that the structurer `llm` generated, those for the references included.
        judge_read: tokens of prompts that the structurer and the aligner `llm` processed.
        seconds_judge: seconds of both, a part of the rewards' and the evaluations' seconds; those for the
            references are in no other counter.
        seconds_evaluation: seconds of evaluations.
        seconds: seconds altogether.
    """

    generated_tokens: float = 0
    prompt_tokens: float = 0
    evaluation_tokens: float = 0
    text_visits: float = 0
    unscored_texts: float = 0
    groups: float = 0
    equal_groups: float = 0
    reward_sum: float = 0
    seconds_sampling: float = 0
    seconds_reward: float = 0
    judge_generated: float = 0
    judge_read: float = 0
    seconds_judge: float = 0
    seconds_evaluation: float = 0
    seconds: float = 0


@dataclass
class JudgeCost:
    """What the prompted model of the structurer and the aligner `llm` has cost; both share one.

    Args:
        generated: generated tokens.
        read: tokens of prompts.
        seconds: seconds of its passes.
    """

    generated: int = 0
    read: int = 0
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


SECONDS = tuple(item.name for item in fields(Cost) if item.name.startswith("seconds"))


class CostMeter:
    """Counts costs until they are taken.

    Args:
        judge: what the prompted model costs; it counts on elsewhere.
    """

    def __init__(self, judge: JudgeCost) -> None:
        self.cost = Cost()
        self._judge = judge
        self._since = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to this counter."""
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self.cost, name, getattr(self.cost, name) + time.perf_counter() - began)

    def take(self) -> dict[str, float]:
        """The costs since the last call, summed over processes (seconds: averaged); counting starts anew."""
        now = time.perf_counter()
        self.cost.seconds, self._since = now - self._since, now
        self.cost.judge_generated, self.cost.judge_read = self._judge.generated, self._judge.read
        self.cost.seconds_judge = self._judge.seconds
        self._judge.generated, self._judge.read, self._judge.seconds = 0, 0, 0.0
        values = asdict(self.cost)
        self.cost = Cost()
        processes = all_processes()
        if processes.num_processes > 1:
            totals = reduce(torch.tensor(list(values.values()), device=processes.device), "sum").tolist()
            values = dict(zip(values, totals, strict=True))
            values.update({name: values[name] / processes.num_processes for name in SECONDS})
        return values


def total_cost(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The costs of a whole run, from the entries of its evaluations.

    Work that an interruption undid is not counted.
    """
    return {item.name: sum(entry[item.name] for entry in history) for item in fields(Cost)}
