"""The value of an unfinished solution, from 0 to 1, without generated tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.methods.questions import QuestionError, question_ids, reply_ids

ValueName = Literal["yes_no", "loglik"]
VALUES: tuple[ValueName, ...] = get_args(ValueName)

FORMS = (
    ("Is everything correct in the solution as far as it goes? Reply with yes or no.", True),
    ("Is there a mistake anywhere in the solution as far as it goes? Reply with no or yes.", False),
)
"""Two forms of one question in both orders of the replies, each with whether `yes` is good."""
OPENING = "Reply:"


class Values(NamedTuple):
    """Values of unfinished solutions, and their cost."""

    values: list[float]
    """of each solution, from 0 to 1"""
    tokens: list[int]
    """tokens that the model processed for each"""


class Candidate(Protocol):
    """The attributes of an unfinished solution that a value uses."""

    @property
    def log_likelihood(self) -> float:
        """Sum of the model's log-probabilities of the generated tokens, at temperature 1."""
        ...

    @property
    def num_generated(self) -> int:
        """Generated tokens."""
        ...


class StateValue(Protocol):
    """Evaluates unfinished solutions in rows of the model's cache."""

    @property
    def extra_slots(self) -> int:
        """Cache slots that a row needs in addition to its text."""
        ...

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        candidates: Sequence[Candidate],
    ) -> Values:
        """Values of the texts in these rows, whose beginnings may be cached; the rows keep the texts."""
        ...


class Question(NamedTuple):
    """One form of the question."""

    ids: tuple[int, ...]
    good: tuple[int, ...]
    """replies that mean that the solution is right"""
    bad: tuple[int, ...]


@dataclass(frozen=True)
class YesNoValue:
    """p(good reply) / (p(good) + p(bad)) behind a question, the mean over its forms.

    Args:
        questions: the forms of the question.
    """

    questions: tuple[Question, ...]

    @property
    def extra_slots(self) -> int:
        """Slots for the longest question, which follows a text."""
        return max(len(question.ids) for question in self.questions)

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        candidates: Sequence[Candidate],
    ) -> Values:
        """Prefills each form of the question behind the texts, and drops it again."""
        share_sums, tokens = torch.zeros(len(rows)), [0] * len(rows)
        for question in self.questions:
            uncached = [
                [*text, *question.ids][len(runner.tokens[row]) :]
                for row, text in zip(rows, texts, strict=True)
            ]
            states = runner.extend(rows, uncached)
            logits = runner.head(torch.stack([row_states[-1] for row_states in states]))
            share_sums += _good_share(logits, question).cpu()
            for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
                tokens[i] += len(uncached[i])
                runner.truncate(row, len(text))
        return Values((share_sums / len(self.questions)).tolist(), tokens)


@dataclass(frozen=True)
class LikelihoodValue:
    """The geometric mean of the model's probabilities of the generated tokens; it needs no pass."""

    extra_slots: int = 0

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        candidates: Sequence[Candidate],
    ) -> Values:
        """exp(mean log-probability)."""
        means = torch.tensor([c.log_likelihood / c.num_generated for c in candidates], dtype=torch.float64)
        return Values(means.exp().tolist(), [0] * len(rows))


def _good_share(logits: Tensor, question: Question) -> Tensor:
    """The good replies' share of the probability of all replies, [n]."""
    good = logits[:, list(question.good)].logsumexp(-1)
    bad = logits[:, list(question.bad)].logsumexp(-1)
    return (good - bad).sigmoid()


def make_value(name: ValueName, tokenizer: Any, has_chat_template: bool) -> StateValue:
    """The value of this name.

    Raises:
        QuestionError: `yes` or `no` is no token, or the chat template cannot express the question.
    """
    if name == "loglik":
        return LikelihoodValue()
    yes = reply_ids(tokenizer, ("yes", "Yes", "YES"))
    no = reply_ids(tokenizer, ("no", "No", "NO"))
    if set(yes) & set(no):
        raise QuestionError("tokenizer: expected different tokens for yes and no; choose value=loglik")
    return YesNoValue(
        tuple(
            Question(
                question_ids(tokenizer, text, OPENING, has_chat_template),
                *((yes, no) if yes_is_good else (no, yes)),
            )
            for text, yes_is_good in FORMS
        )
    )
