"""Texts of the student while it is trained: groups of samples, and greedy texts, both from the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from s2t_eval.engine import Decoder, Finish, ModelRunner, Request, Sampling, derive_seed
from s2t_eval.engine.stop import Decode
from s2t_eval.selection.policy import greedy
from s2t_eval.training.rlkd.problems import RlkdProblem, Text


@dataclass(frozen=True)
class TextLimits:
    """When a text ends, as in evaluation.

    Args:
        max_new_tokens: length limit, in tokens.
        stop_ids: tokens that end a text.
        until: strings that end a text.
    """

    max_new_tokens: int
    stop_ids: frozenset[int]
    until: tuple[str, ...]

    def request(
        self, prompt_ids: tuple[int, ...], sampling: Sampling | None = None, seed: int = 0
    ) -> Request:
        """The engine's request for one text; without `sampling` it is greedy."""
        return Request(prompt_ids, self.max_new_tokens, self.stop_ids, self.until, sampling, seed)

    def is_whole(self, output_ids: Sequence[int], text: str) -> bool:
        """Whether a text has ended by itself: it is shorter than the limit, or ends with a stop.

        Args:
            output_ids: its tokens.
            text: what they say, with a stop string.
        """
        is_short = len(output_ids) < self.max_new_tokens
        return is_short or output_ids[-1] in self.stop_ids or self.cut(text) != text

    def cut(self, text: str) -> str:
        """A text up to its first stop string, as the harness reads it."""
        for stop in self.until:
            text = text.split(stop)[0]
        return text


@dataclass
class Sampler:
    """Generates texts with the student's present weights.

    Args:
        runner: the student with its adapter.
        limits: when a text ends.
        decode: token ids to text.
        rows: texts that are generated at once.
        prompt_tokens: prompt tokens that were computed so far.
    """

    runner: ModelRunner
    limits: TextLimits
    decode: Decode
    rows: int
    prompt_tokens: int = 0

    def groups(
        self, problems: Sequence[RlkdProblem], size: int, sampling: Sampling, seed: object
    ) -> list[list[Text]]:
        """`size` samples of each problem.

        A sample's random numbers depend on the seed, its problem and its place in the group alone.
        """
        requests = [
            self.limits.request(problem.prompt_ids, sampling, derive_seed(seed, problem.problem_id, place))
            for problem in problems
            for place in range(size)
        ]
        texts = self._generate(requests)
        return [texts[begin : begin + size] for begin in range(0, len(texts), size)]

    def greedy(self, problems: Sequence[RlkdProblem]) -> list[Text]:
        """The greedy text of each problem."""
        return self._generate([self.limits.request(problem.prompt_ids) for problem in problems])

    def _generate(self, requests: Sequence[Request]) -> list[Text]:
        self.runner.release()  # the cached keys and values are those of earlier weights
        texts: dict[int, Text] = {}
        decoder = Decoder(self.runner, greedy(), rows=self.rows, decode=self.decode)
        with torch.autocast(self.runner.device.type, enabled=False):
            for result in decoder.run(requests):
                content = self.limits.cut(self.decode(result.text_ids))
                is_truncated = result.finish is Finish.LENGTH
                texts[result.index] = Text(result.output_ids, content, is_truncated)
                self.prompt_tokens += result.usage.prefill_tokens
        self.runner.release()
        return [texts[index] for index in range(len(requests))]
