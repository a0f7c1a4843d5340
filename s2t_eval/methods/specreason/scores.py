"""The teacher's score of a drafted step, from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence as DecodedSequence
from s2t_eval.engine.stop import Decode
from s2t_eval.method_table import StepScoreName
from s2t_eval.methods.questions import question_ids, reply_ids

QUESTION = (
    "Look only at the last step of the solution so far. Do its facts, its reasoning and its calculation "
    "hold? Give it a mark from 0 (wrong) to 9 (certainly right)."
)
OPENING = "Mark:"
HIGHEST_MARK = 9


class StepStates(NamedTuple):
    """The teacher's hidden states of one drafted step."""

    before: Tensor
    """its states from which the step's tokens are predicted, [tokens, hidden]"""
    tokens: list[int]
    """the step's tokens"""
    after: Tensor | None
    """its state behind the step and the question, [hidden]; None where the step has no content"""


class StepScore(Protocol):
    """Scores drafted steps."""

    @property
    def question(self) -> tuple[int, ...]:
        """Tokens that the teacher prefills behind a step; they are dropped afterwards."""
        ...

    @property
    def named(self) -> tuple[int, ...]:
        """Tokens whose values behind the question the score needs; none where there is no question."""
        ...

    def __call__(self, teacher: ModelRunner, step: StepStates) -> float:
        """The score, from 0 to 1; NaN where the teacher's logits are not finite."""
        ...

    def of_log_probs(self, log_probs: Sequence[float], most_likely: int | None) -> float:
        """The same score from what a server returns.

        Args:
            log_probs: of the `named` tokens behind the question; where none is named, of the step's own.
            most_likely: the argmax token behind the question, if there is one.
        """
        ...


@dataclass(frozen=True)
class MarkScore:
    """The teacher's mark of the step from 0 to 9, divided by 9 (SpecReason's two scores).

    Args:
        question: tokens of the question.
        marks: token ids of each mark.
        is_expected: the expectation over the marks, whose probabilities are made to sum to one; otherwise the
            most likely token, which counts as 0 where it is no mark.
    """

    question: tuple[int, ...]
    marks: tuple[tuple[int, ...], ...]
    is_expected: bool

    def __call__(self, teacher: ModelRunner, step: StepStates) -> float:
        """The score."""
        assert step.after is not None
        logits = teacher.head(step.after[None])[0]
        if not bool(logits.max().isfinite()):
            return float("nan")
        return self._score(logits[list(self.named)], int(logits.argmax()))

    @property
    def named(self) -> tuple[int, ...]:
        """The tokens of all marks."""
        return tuple(id_ for ids in self.marks for id_ in ids)

    def of_log_probs(self, log_probs: Sequence[float], most_likely: int | None) -> float:
        """The score from what a server returns."""
        assert most_likely is not None
        return self._score(torch.tensor(log_probs), most_likely)

    def _score(self, values: Tensor, most_likely: int) -> float:
        """The score from the logits or the log-probabilities of the named tokens."""
        if self.is_expected:
            by_mark = values.split([len(ids) for ids in self.marks])
            mark_logits = torch.stack([own.logsumexp(-1) for own in by_mark])
            weights = torch.arange(len(self.marks), device=mark_logits.device)
            return float((mark_logits.softmax(-1) * weights).sum()) / HIGHEST_MARK
        return sum(mark for mark, ids in enumerate(self.marks) if most_likely in ids) / HIGHEST_MARK


@dataclass(frozen=True)
class LikelihoodScore:
    """The geometric mean of the teacher's probabilities of the step's tokens: exp(mean log-probability)."""

    question: tuple[int, ...] = ()
    named: tuple[int, ...] = ()

    def __call__(self, teacher: ModelRunner, step: StepStates) -> float:
        """The score."""
        log_probs = teacher.head(step.before).log_softmax(-1)
        step_ids = torch.tensor(step.tokens, device=log_probs.device)[:, None]
        return float(log_probs.gather(-1, step_ids).mean().exp())

    def of_log_probs(self, log_probs: Sequence[float], most_likely: int | None) -> float:
        """The score from what a server returns."""
        return float(torch.tensor(log_probs).mean().exp())


def content_of(step: Sequence[int], seq: DecodedSequence, decode: Decode) -> list[int]:
    """The tokens of a drafted step in front of the end of its text; none where they are only white space.

    A question about the step can follow these alone: with a stop token the template's turn has ended too, and
    a stop string is no reasoning.
    """
    content = list(seq.stop.before_end([*seq.output, *step])[len(seq.output) :])
    return content if decode(content).strip() else []


def score_without_content(seq: DecodedSequence) -> float:
    """The score of a draft that only ends the text: that of the draft before it, 0 where there is none.

    It has no reasoning that could have a mark, and what the teacher would read is the step before. So an end
    behind an accepted step is accepted, and behind a step of the teacher, which is not scored, the teacher
    decides whether the text ends. It is not among the observed scores.
    """
    return seq.observed[0][-1] if seq.observed[0] else 0.0


def make_score(
    name: StepScoreName,
    tokenizer: Any,
    has_chat_template: bool,
    template_args: Mapping[str, Any] = MappingProxyType({}),
) -> StepScore:
    """The score of this name; see `question_ids` for the arguments.

    Raises:
        QuestionError: the mark cannot be expressed in the tokenizer or the chat template.
    """
    if name == "logprob":
        return LikelihoodScore()
    # Where no token is a space and a digit (Qwen, Llama), a space follows the colon and hides the mark.
    has_spaced_digits = len(tokenizer.encode(f" {HIGHEST_MARK}", add_special_tokens=False)) == 1
    opening = OPENING if has_spaced_digits else f"{OPENING} "
    question = question_ids(tokenizer, QUESTION, opening, has_chat_template, template_args)
    marks = tuple(reply_ids(tokenizer, [str(mark)]) for mark in range(HIGHEST_MARK + 1))
    return MarkScore(question, marks, name == "expected")
