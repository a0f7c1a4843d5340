"""The value of an unfinished solution, from 0 to 1, by the model that writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.methods.tot.replies import ReplySampler

VERDICTS = {"certain": 1.0, "doubtful": 0.05, "hopeless": 0.00005}
"""Value of each verdict. The paper's three have the values 20, 1 and 0.001; only their ratios matter."""
VERDICT = re.compile(rf"\b({'|'.join(VERDICTS)})\b", re.IGNORECASE)
NEGATED = re.compile(
    r"(\b(not|cannot|never|neither|hardly|far from)|n['’]t)\b((?!\bbut\b)[^.,;:!?\n])*$", re.IGNORECASE
)
"""A beginning whose last clause contains a negation."""


class Values(NamedTuple):
    """Values of unfinished solutions, and their cost."""

    values: list[float]
    """of each solution, from 0 to 1"""
    tokens: list[int]
    """tokens of questions that the model read for each; those of the solution count as generated"""
    sampled: list[int]
    """tokens that it generated for each"""
    passes: list[int]
    """its passes for each"""


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

    @property
    def value_seed(self) -> int:
        """Seed of what is sampled to evaluate it."""
        ...


class StateValue(Protocol):
    """Evaluates unfinished solutions, each on its own, in rows of the model's cache."""

    @property
    def extra_slots(self) -> int:
        """Cache slots that a row needs in addition to its text."""
        ...

    def most_sampled(self, num_branches: int) -> int:
        """Most tokens that are generated to evaluate so many continuations of a request."""
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

    def most_sampled(self, num_branches: int) -> int:
        """None: the replies are read from logits."""
        return 0

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        candidates: Sequence[Candidate],
    ) -> Values:
        """Prefills each form of the question behind the texts, and drops it again."""
        share_sums, count, num_forms = torch.zeros(len(rows)), len(rows), len(self.questions)
        for question in self.questions:
            last_states = _read_behind(runner, rows, texts, question.ids)
            share_sums += _good_share(runner.head(last_states), question).cpu()
            _keep_texts(runner, rows, texts)
        num_read = sum(len(question.ids) for question in self.questions)
        values = (share_sums / num_forms).tolist()
        return Values(values, [num_read] * count, [0] * count, [num_forms] * count)


@dataclass(frozen=True)
class WordsValue:
    """The mean value of sampled verdicts `certain`, `doubtful` and `hopeless`; a reply without one counts 0.

    A verdict behind a negation (`not certain`) is none: the reply goes on to the next one or its end.

    Args:
        question: tokens of the question.
        replies: samples the replies.
    """

    question: tuple[int, ...]
    replies: ReplySampler

    @property
    def extra_slots(self) -> int:
        """Slots for question and reply, which follow a text."""
        return len(self.question) + self.replies.max_tokens

    def most_sampled(self, num_branches: int) -> int:
        """Every reply may need all its tokens."""
        return num_branches * self.replies.most_sampled

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        candidates: Sequence[Candidate],
    ) -> Values:
        """Prefills the question behind the texts, samples replies, and drops both again."""
        last_states = _read_behind(runner, rows, texts, self.question)
        seeds = [candidate.value_seed for candidate in candidates]
        replies = self.replies(runner, rows, last_states, [verdict_value] * len(rows), seeds)
        _keep_texts(runner, rows, texts)
        values = [sum(value or 0.0 for value in one.verdicts) / len(one.verdicts) for one in replies]
        num_read, sampled = [len(self.question)] * len(rows), [one.sampled for one in replies]
        return Values(values, num_read, sampled, [1 + one.passes for one in replies])


def verdict_value(reply: str, is_complete: bool) -> float | None:
    """The value of the first verdict in a reply that is not behind a negation; None where there is none."""
    verdicts = (match for match in VERDICT.finditer(reply) if not NEGATED.search(reply[: match.start()]))
    return next((VERDICTS[match[1].lower()] for match in verdicts), None)


@dataclass(frozen=True)
class LikelihoodValue:
    """The geometric mean of the model's probabilities of the generated tokens; it needs no pass."""

    extra_slots: int = 0

    def most_sampled(self, num_branches: int) -> int:
        """None."""
        return 0

    def __call__(
        self,
        runner: ModelRunner,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        candidates: Sequence[Candidate],
    ) -> Values:
        """exp(mean log-probability)."""
        means = torch.tensor([c.log_likelihood / c.num_generated for c in candidates], dtype=torch.float64)
        nothing = [0] * len(rows)
        return Values(means.exp().tolist(), nothing, nothing, nothing)


def _read_behind(
    runner: ModelRunner, rows: Sequence[int], texts: Sequence[list[int]], question: Sequence[int]
) -> Tensor:
    """Prefill a question behind each text; returns the states at its end, [rows, hidden]."""
    _keep_texts(runner, rows, texts)  # a row may have tokens of a stop string already
    uncached = [[*text, *question][len(runner.tokens[row]) :] for row, text in zip(rows, texts, strict=True)]
    states = runner.extend(rows, uncached)
    return torch.stack([row_states[-1] for row_states in states])


def _keep_texts(runner: ModelRunner, rows: Sequence[int], texts: Sequence[list[int]]) -> None:
    """Drop what follows the texts."""
    for row, text in zip(rows, texts, strict=True):
        runner.truncate(row, len(text))


def _good_share(logits: Tensor, question: Question) -> Tensor:
    """The good replies' share of the probability of all replies, [n]."""
    good = logits[:, list(question.good)].logsumexp(-1)
    bad = logits[:, list(question.bad)].logsumexp(-1)
    return (good - bad).sigmoid()
