"""The student's own scores of candidates on its servers: by an adapter, or by reserved output rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

import torch

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import Pin, Pool
from s2t_eval.remote.protocol import Scored, read_scores, score_body
from s2t_eval.selection.scores import Evidence, Score


class Scorer(Protocol):
    """Scores the candidates of a fired step."""

    def pin(self, seq: Sequence) -> Pin:
        """The server of a text."""
        ...

    async def scores(
        self, pin: Pin, seq: Sequence, candidates: Seq[int], log_probs: Seq[float]
    ) -> list[float]:
        """The scores of candidates after `seq.ids`, which the proposer gives these log-probabilities."""
        ...


@dataclass(frozen=True)
class AdapterScorer:
    """The selector's adapter, which the student's servers have as a LoRA: one request a fired step.

    Its log-probabilities take the place of its logits. They differ by the same number for all candidates of
    a step, so the picks are those of the local engine.

    Args:
        pool: the student's servers, with the adapter as their model.
        score: a form that does not look ahead.
    """

    pool: Pool
    score: Score

    def pin(self, seq: Sequence) -> Pin:
        """The server of a text."""
        return self.pool.pin(seq.index)

    async def scores(
        self, pin: Pin, seq: Sequence, candidates: Seq[int], log_probs: Seq[float]
    ) -> list[float]:
        """See `Scorer`."""
        own = await _log_probs(self.pool, pin, seq, seq.ids, candidates)
        scores: list[float] = self.score.score(
            Evidence(torch.tensor(log_probs), own_logits=torch.tensor(own))
        ).tolist()
        return scores


@dataclass(frozen=True)
class ReservedRowScorer:
    """The paper's form over a checkpoint of `s2t-eval export --to_reserved_rows` (section 4).

    Each candidate is appended in a request of its own, which returns the log-probabilities of the reserved
    rows. A softmax over them is the readout's, because log-probabilities differ from logits by the same
    number for all rows.

    Args:
        pool: the student's servers, which serve the exported checkpoint.
        rows: ids of the reserved rows.
        score: a form that looks ahead, over a readout whose weight is the identity: its hidden states are
            the logits of the rows.
    """

    pool: Pool
    rows: tuple[int, ...]
    score: Score

    def pin(self, seq: Sequence) -> Pin:
        """The server of a text."""
        return self.pool.pin(seq.index)

    async def scores(
        self, pin: Pin, seq: Sequence, candidates: Seq[int], log_probs: Seq[float]
    ) -> list[float]:
        """See `Scorer`."""
        texts = [[*seq.ids, candidate] for candidate in candidates]
        lanes = await asyncio.gather(*(_log_probs(self.pool, pin, seq, text, self.rows) for text in texts))
        scores: list[float] = self.score.score(
            Evidence(torch.tensor(log_probs), hidden=torch.tensor(lanes))
        ).tolist()
        return scores


async def _log_probs(pool: Pool, pin: Pin, seq: Sequence, ids: Seq[int], scored: Seq[int]) -> list[float]:
    """Log-probabilities of the tokens `scored` after `ids`."""

    def read(answer: object) -> Scored:
        return read_scores(answer, scored)

    result = await pool.generate(pin, score_body(ids, scored), read)
    seq.usage.server_requests += 1
    seq.usage.scorer_calls += 1
    seq.usage.scorer_tokens += result.usage.computed
    return result.log_probs
