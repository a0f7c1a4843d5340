"""Decoding with a looped student, under the scheduler of every method."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.engine.request import Request
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import Finished, append_tokens, greedy_tokens, joined, sampled_tokens
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.methods.tah.mixture import top_mixture
from s2t_eval.methods.tah.runner import DeepPass, LoopedRunner
from s2t_eval.methods.tah.settings import TOP_N, require_depth
from s2t_eval.selection.policy import Policy

TAH = Policy("tah")
"""Its description in results: no trigger and no selector."""


@dataclass
class LoopedSequence(Sequence):
    """A request and the state of the iterations over its last token.

    Args:
        depth: of the last pass, from 0.
        total: accumulated logits of the passes before that one, [vocab]; None at depth 0.
        mixture: input of the next pass at the same token; None: the next pass has a new token.
    """

    depth: int = 0
    total: Tensor | None = None
    mixture: Tensor | None = None


@dataclass(frozen=True)
class Votes:
    """The inputs of a vote: the sequences of a step that may have a further iteration.

    Args:
        rows: the sequences.
        states: outputs of the decider's layers, [n, layers * hidden].
        totals: accumulated logits, [n, vocab].
    """

    rows: abc.Sequence[LoopedSequence]
    states: Tensor
    totals: Tensor


Vote = abc.Callable[[Votes], Tensor]
"""Decides which sequences continue, bool [n]."""


class LoopedStepper:
    """Think-at-Hard: in every pass each row has its new token (depth 0) or iterates over its last one.

    Rows at different depths share a pass, so no row waits for the further iterations of another.

    Args:
        runner: the looped student.
        vote: decides which sequences continue; called after each pass except a token's last allowed one.
        max_depth: most passes for a token.
        top_n: tokens mixed into the next pass's input.
    """

    extra_slots = 1

    def __init__(self, runner: LoopedRunner, vote: Vote, max_depth: int, top_n: int) -> None:
        require_depth(max_depth)
        self.runner = runner
        self.runners = [runner]
        self.vote = vote
        self.max_depth = max_depth
        self.top_n = top_n
        self._hidden = torch.empty(0)

    def sequence(self, index: int, request: Request, stop: StopRule) -> LoopedSequence:
        """The state of a new request."""
        return LoopedSequence(index, request, stop)

    def prefill(self, seqs: abc.Sequence[LoopedSequence], first: int) -> None:
        """Prefill the prompts of `seqs[first:]`, at depth 0."""
        rows = range(first, len(seqs))
        hidden, computed = self.runner.prefill(rows, [seqs[row].ids for row in rows])
        self._hidden = joined(self._hidden[:first], hidden)
        for row, tokens in zip(rows, computed, strict=True):
            seqs[row].usage.forwards += 1
            seqs[row].usage.prefill_tokens += tokens

    def emit(self, seqs: abc.Sequence[LoopedSequence]) -> Finished:
        """Append a token to the rows that do not continue; prepare a further iteration for the others."""
        totals = self._totals(seqs)
        best = totals.max(-1)
        greedy = greedy_tokens(self.runner, seqs, best.values, best.indices)
        continuing = self._continuing(seqs, totals)
        self._prepare_next_iteration(seqs, totals, continuing)
        return self._emit_tokens(seqs, sampled_tokens(seqs, totals, greedy), set(continuing))

    def keep(self, order: list[int]) -> None:
        """Reorder the states like the rows."""
        self._hidden = self._hidden[order]

    def advance(self, seqs: abc.Sequence[LoopedSequence]) -> None:
        """One pass for all rows, each at its own depth."""
        deeper = [
            DeepPass(row, seq.depth, seq.mixture) for row, seq in enumerate(seqs) if seq.mixture is not None
        ]
        ids = torch.tensor([seq.ids[-1] for seq in seqs])
        self._hidden = self.runner.advance(ids, deeper)
        for seq in seqs:
            seq.usage.forwards += 1

    def _totals(self, seqs: abc.Sequence[LoopedSequence]) -> Tensor:
        """Accumulated logits of every row, [batch, vocab]."""
        totals = self.runner.head(self._hidden)
        for row, seq in enumerate(seqs):
            if seq.total is not None:
                totals[row] += seq.total
        return totals

    def _continuing(self, seqs: abc.Sequence[LoopedSequence], totals: Tensor) -> list[int]:
        """The rows with a further iteration."""
        eligible = [row for row, seq in enumerate(seqs) if seq.depth + 1 < self.max_depth]
        if not eligible:
            return []
        chosen = slice(None) if len(eligible) == len(seqs) else eligible
        states = self.runner.read(self._hidden[chosen])
        continues = self.vote(Votes([seqs[row] for row in eligible], states, totals[chosen])).tolist()
        return [row for row, is_continued in zip(eligible, continues, strict=True) if is_continued]

    def _prepare_next_iteration(
        self, seqs: abc.Sequence[LoopedSequence], totals: Tensor, continuing: list[int]
    ) -> None:
        """Compute the next input of the rows that continue."""
        for seq in seqs:
            seq.mixture = None
        if continuing:
            mixtures = top_mixture(self.runner.embedding, totals[continuing], self.top_n)
            for row, mixture in zip(continuing, mixtures, strict=True):
                seq = seqs[row]
                seq.usage.continued += seq.depth == 0
                seq.usage.deeper_passes += 1
                seq.depth += 1
                seq.total = totals[row].clone()
                seq.mixture = mixture

    def _emit_tokens(
        self, seqs: abc.Sequence[LoopedSequence], tokens: list[int], continuing: set[int]
    ) -> Finished:
        """Append a token to each row that does not continue."""
        emitting = [row for row in range(len(seqs)) if row not in continuing]
        for row in emitting:
            seqs[row].depth, seqs[row].total = 0, None
        return append_tokens((row, seqs[row], tokens[row]) for row in emitting)


class LoopedDecoder(Scheduler[LoopedSequence]):
    """Greedy decoding with Think-at-Hard (or sampling from the accumulated logits).

    Args:
        student: the looped student.
        vote: decides which sequences continue; called after each pass except a token's last allowed one.
        max_depth: most passes for a token.
        top_n: tokens mixed into the next pass's input.
        rows: sequences decoded at once.
        decode: token ids to text, for requests with stop strings.
        answer_of: extracts the answer outside of a text's thoughts, for requests with thoughts.

    Raises:
        TahError: a depth below 1.
    """

    def __init__(
        self,
        student: LoopedRunner,
        vote: Vote,
        max_depth: int = 2,
        top_n: int = TOP_N,
        rows: int = 32,
        decode: Decode | None = None,
        answer_of: AnswerOf | None = None,
    ) -> None:
        super().__init__(LoopedStepper(student, vote, max_depth, top_n), rows, decode, answer_of)
