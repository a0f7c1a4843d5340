"""Decoding with a looped student, in the loop that every method runs in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.engine.decoder import Decoder, Row
from s2t_eval.engine.stop import AnswerOf, Decode
from s2t_eval.methods.tah.mixture import top_mixture
from s2t_eval.methods.tah.settings import TOP_N, require_depth
from s2t_eval.methods.tah.slots import Deeper, LoopedSlots
from s2t_eval.selection.policy import Policy

TAH = Policy("tah")


@dataclass
class LoopedRow(Row):
    """A request at work: how often the token it is at was thought about, and what came of that.

    Args:
        depth: of the row's last pass, from 0.
        total: accumulated logits of the passes before that one, [vocab]; None at depth 0.
        mixture: what the next pass looks at; None: the next pass is a new token's.
    """

    depth: int = 0
    total: Tensor | None = None
    mixture: Tensor | None = None


@dataclass(frozen=True)
class Votes:
    """What a vote may look at: the rows of a step that may think on.

    Args:
        rows: the requests.
        states: outputs of the layers read, [n, layers * hidden].
        totals: accumulated logits, [n, vocab].
    """

    rows: Sequence[LoopedRow]
    states: Tensor
    totals: Tensor


Vote = Callable[[Votes], Tensor]
"""Which rows continue, bool [n]."""


class LoopedDecoder(Decoder):
    """Greedy decoding with Think-at-Hard (or sampling from the accumulated logits).

    In every pass each row either reads its new token (depth 0) or looks again at its last one, so rows
    at different depths share a pass and nobody waits for another's second thoughts.

    Args:
        student: the looped student.
        vote: whether rows continue; asked after each pass but a token's last allowed one.
        max_depth: most passes a token.
        top_n: tokens mixed into the next pass's input.
        rows: sequences at work at once.
        decode: token ids to text, for requests with stop strings.
        answer_of: what a text says outside of its thoughts, for requests that tell them apart.

    Raises:
        TahError: a depth below 1.
    """

    ROW = LoopedRow

    def __init__(
        self,
        student: LoopedSlots,
        vote: Vote,
        max_depth: int = 2,
        top_n: int = TOP_N,
        rows: int = 32,
        decode: Decode | None = None,
        answer_of: AnswerOf | None = None,
    ) -> None:
        super().__init__(student, TAH, rows=rows, decode=decode, answer_of=answer_of)
        require_depth(max_depth)
        self.looped = student
        self.vote = vote
        self.max_depth = max_depth
        self.top_n = top_n

    @property
    def at_work(self) -> list[LoopedRow]:
        """The rows at work."""
        return self._active  # type: ignore[return-value]

    @torch.inference_mode()
    def _step(self) -> None:
        """One pass: rows that are sure say their token and read it, the others look again."""
        totals = self._totals()
        best = totals.max(-1)
        self._require_finite(self.looped, best.values, range(len(self._active)))
        continuing = self._continuing(totals)
        self._think(totals, continuing)
        self._say(self._sampled(totals, best.indices), set(continuing))
        if not self._active:
            return
        deeper = [
            Deeper(row, sequence.depth, sequence.mixture)
            for row, sequence in enumerate(self.at_work)
            if sequence.mixture is not None
        ]
        ids = torch.tensor([sequence.ids[-1] for sequence in self._active], device=self.looped.device)
        self._state = self.looped.advance(ids, deeper)
        for sequence in self._active:
            sequence.usage.forwards += 1

    def _totals(self) -> Tensor:
        """Accumulated logits of every row, [rows, vocab]."""
        totals = self.looped.head(self._state)
        for row, sequence in enumerate(self.at_work):
            if sequence.total is not None:
                totals[row] += sequence.total
        return totals

    def _continuing(self, totals: Tensor) -> list[int]:
        """The rows that look again."""
        may = [row for row, sequence in enumerate(self.at_work) if sequence.depth + 1 < self.max_depth]
        if not may:
            return []
        everyone = len(may) == len(self._active)
        chosen = slice(None) if everyone else may
        states = self.looped.read(self._state[chosen])
        votes = Votes([self.at_work[row] for row in may], states, totals[chosen])
        return [row for row, goes_on in zip(may, self.vote(votes).tolist(), strict=True) if goes_on]

    def _think(self, totals: Tensor, continuing: list[int]) -> None:
        """Prepare the next look of the rows that continue; the others begin anew."""
        for sequence in self.at_work:
            sequence.mixture = None
        if continuing:
            mixtures = top_mixture(self.looped.embedding, totals[continuing], self.top_n)
            for row, mixture in zip(continuing, mixtures, strict=True):
                sequence = self.at_work[row]
                sequence.usage.continued += sequence.depth == 0
                sequence.usage.deeper_passes += 1
                sequence.depth += 1
                sequence.total = totals[row].clone()
                sequence.mixture = mixture

    def _say(self, tokens: list[int], continuing: set[int]) -> None:
        """Hand their tokens to the rows that are sure; texts that end leave their rows."""
        finished = []
        for row, sequence in enumerate(self.at_work):
            if row in continuing:
                continue
            sequence.depth, sequence.total = 0, None
            finish = sequence.append(tokens[row])
            if finish is not None:
                finished.append(row)
                self._ended.append(sequence.result(finish))
        self._retire(finished)
