"""The student behind a server: chunks of its greedy text with the most likely tokens of every step."""

from __future__ import annotations

import itertools

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import Pin, Pool
from s2t_eval.remote.protocol import SUPPORT, DraftedStep, draft_body, read_draft
from s2t_eval.remote.settings import ServerError

UNBOUNDED_CHUNK = 256
"""Tokens a request where no step is selected or sampled: only a stop string can discard any of them."""


class RemoteStudent:
    """Drafts chunks of text.

    Args:
        pool: its servers.
        text_vocab: ids from here on are no text.
    """

    def __init__(self, pool: Pool, text_vocab: int) -> None:
        self.pool = pool
        self.text_vocab = text_vocab

    def pin(self, seq: Sequence) -> Pin:
        """The server of a text."""
        return self.pool.pin(seq.index)

    def release(self, seq: Sequence) -> None:
        """Nothing is kept for a text."""

    def close(self) -> None:
        """The HTTP session is the caller's."""

    async def draft(self, pin: Pin, seq: Sequence, limit: int, is_plain: bool) -> list[DraftedStep]:
        """The next tokens of a text, at least one.

        Args:
            pin: of the text.
            seq: its prompt and tokens so far.
            limit: most tokens.
            is_plain: whether only the token itself is needed of each step.
        """
        # A plain text needs other tokens only where the server takes a row that is no text.
        steps = await self._draft(pin, seq, limit, 1 if is_plain else SUPPORT)
        if not steps and is_plain:
            steps = await self._draft(pin, seq, 1, SUPPORT)
        if not steps:
            raise ServerError(
                f"student server {pin.server.url}: none of its {SUPPORT} most likely tokens is text "
                f"(ids below {self.text_vocab}); does it serve the model of pretrained=?"
            )
        return steps

    async def _draft(self, pin: Pin, seq: Sequence, limit: int, num_top: int) -> list[DraftedStep]:
        body = draft_body(seq.ids, limit, sorted(seq.request.stop_ids), num_top)
        drafted = await self.pool.generate(
            pin, body, lambda answer: read_draft(answer, limit, self.text_vocab, num_top)
        )
        seq.usage.server_requests += 1
        seq.usage.forwards += drafted.usage.generated
        seq.usage.prefill_tokens += drafted.usage.computed
        # Behind a step without a token of the text vocabulary nothing can stay.
        return list(itertools.takewhile(lambda step: step.ids, drafted.steps))
