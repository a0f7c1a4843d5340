"""The interface between the scheduler and a decoding method, and functions that several methods share.

The scheduler decides which requests are active and which cache row each of them has; a stepper
implements the decoding method. Both work on the same list of sequences: `seqs[i]` is in row i of every
runner. One round of the scheduler is

    finished = stepper.emit(seqs)      # append tokens: none, one or several to each sequence
    (finished sequences leave, the last ones move into their rows: stepper.keep)
    stepper.advance(seqs)              # run the models, so that the next tokens can be chosen

A method that verifies several tokens at once emits several tokens in a round, and one that iterates over
a token may emit none; the scheduler is the same for all. Selection (`selection_step.py`), selection with a
teacher that verifies in chunks (`verifying_step.py`) and Think-at-Hard (`methods/tah/decoder.py`) are
steppers.
"""

from __future__ import annotations

from collections import abc
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from s2t_eval.engine.request import Finish, Request
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sampling import Sampling, sample
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stop import StopRule
from s2t_eval.engine.transfer import to_device
from s2t_eval.selection.step import TextPositions

S = TypeVar("S", bound=Sequence)

Finished = list[tuple[int, Finish]]
"""Rows whose text has ended, in ascending order, each with the reason."""


class Round(NamedTuple):
    """The state of a run after a round, for observers; it is read-only."""

    active: abc.Sequence[Sequence]
    """the scheduler's active sequences, including those that have just ended"""
    finished: Finished
    """rows of `active` whose text has just ended"""


OnRound = abc.Callable[[Round], object]
"""An observer of a run: called when requests have been admitted, before their prefill, and after each
round's tokens have been appended. It has no effect on the texts, and a run without one has no overhead."""


class NonFiniteLogitsError(RuntimeError):
    """A model's logits are NaN or infinite; the message names model, request and step."""


class Stepper(Protocol[S]):
    """One decoding method, applied to the active sequences of a scheduler."""

    @property
    def runners(self) -> abc.Sequence[ModelRunner]:
        """The models whose cache rows follow the scheduler's."""
        ...

    @property
    def extra_slots(self) -> int:
        """Cache slots that a row needs in addition to its text."""
        ...

    def sequence(self, index: int, request: Request, stop: StopRule) -> S:
        """The state of a new request."""
        ...

    def prefill(self, seqs: abc.Sequence[S], first: int) -> None:
        """Prefill the prompts of `seqs[first:]`, which have just been admitted."""
        ...

    def emit(self, seqs: abc.Sequence[S]) -> Finished:
        """Append tokens to the sequences; returns the rows whose text has ended."""
        ...

    def keep(self, order: list[int]) -> None:
        """Move the state of row `order[i]` to row i; the states of all other rows are dropped."""
        ...

    def advance(self, seqs: abc.Sequence[S]) -> None:
        """Run the models over the tokens that `emit` appended. Not called when no sequence is left."""
        ...


def append_tokens(seqs: abc.Iterable[tuple[int, Sequence, int]]) -> Finished:
    """Append a token to each of (row, sequence, token)."""
    finished = []
    for row, seq, token in seqs:
        finish = seq.append(token)
        if finish is not None:
            finished.append((row, finish))
    return finished


def greedy_tokens(
    runner: ModelRunner, seqs: abc.Sequence[Sequence], highest: Tensor, best: Tensor
) -> list[int]:
    """The argmax of every row, read from the device together with whether its logit is a number.

    Args:
        runner: the model, for messages.
        seqs: the sequence of each row.
        highest: largest logit of each row, [batch].
        best: its token, [batch].

    Raises:
        NonFiniteLogitsError: a row's largest logit is NaN or infinite.
    """
    tokens: list[int] = best.where(highest.isfinite(), -1).tolist()
    if -1 in tokens:
        raise not_finite(runner, seqs[tokens.index(-1)])
    return tokens


def sampled_tokens(seqs: abc.Sequence[Sequence], logits: Tensor, greedy: abc.Sequence[int]) -> list[int]:
    """Greedy tokens, and for sequences that sample a token drawn from logits [batch, vocab]."""
    tokens = list(greedy)
    groups: dict[Sampling, list[int]] = {}
    for row, seq in enumerate(seqs):
        if seq.request.sampling is not None:
            groups.setdefault(seq.request.sampling, []).append(row)
    for sampling, rows in groups.items():
        numbers = [seqs[row].token_numbers.random() for row in rows]
        drawn = sample(logits[rows], sampling, numbers).tolist()
        for row, token in zip(rows, drawn, strict=True):
            tokens[row] = token
    return tokens


def prefill_student(student: ModelRunner, seqs: abc.Sequence[Sequence], rows: abc.Sequence[int]) -> Tensor:
    """The student's states at the end of these rows' prompts, [rows, hidden]."""
    hidden, computed = student.prefill(rows, [seqs[row].ids for row in rows])
    for row, tokens in zip(rows, computed, strict=True):
        seqs[row].usage.forwards += 1
        seqs[row].usage.prefill_tokens += tokens
    return hidden


def prefill_teacher(teacher: ModelRunner, seqs: abc.Sequence[Sequence], rows: abc.Sequence[int]) -> Tensor:
    """The teacher's states at the end of these rows' texts; it computes only what it has not read."""
    hidden, computed = teacher.prefill(rows, [seqs[row].ids for row in rows])
    for row, tokens in zip(rows, computed, strict=True):
        seqs[row].usage.teacher_calls += 1
        seqs[row].usage.teacher_tokens += tokens
    return hidden


def require_finite(
    runner: ModelRunner, top: Tensor, seqs: abc.Sequence[Sequence], rows: abc.Sequence[int]
) -> None:
    """Raise `NonFiniteLogitsError` unless the largest logit of each of these rows is finite."""
    finite = top.isfinite()
    if bool(finite.all()):
        return
    raise not_finite(runner, seqs[rows[int((~finite).nonzero()[0])]])


def not_finite(runner: ModelRunner, seq: Sequence) -> NonFiniteLogitsError:
    """The error for a model whose logits of a sequence's next token are not numbers."""
    return NonFiniteLogitsError(
        f"{runner.name}: logits are not finite at step {len(seq.output)} of request {seq.index}; the "
        "weights may be damaged, or the dtype too narrow for this model (try dtype=bfloat16 or "
        "float32)"
    )


def joined(states: Tensor, new: Tensor) -> Tensor:
    """The states of active rows [n, hidden] and of rows that were just admitted, [n + new, hidden]."""
    return new if len(states) == 0 else torch.cat([states, new.to(states)])


def text_positions(
    last_ids: abc.Sequence[int], num_tokens: abc.Sequence[int], device: torch.device
) -> TextPositions:
    """The positions of a step in the texts of the rows, one number a row, on a device."""
    return TextPositions(*(to_device(torch.tensor(column), device) for column in (last_ids, num_tokens)))
