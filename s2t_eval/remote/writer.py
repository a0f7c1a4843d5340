"""A model behind servers that writes: chunks of its greedy text with the most likely tokens of every step."""

from __future__ import annotations

import itertools
from collections import abc
from typing import Protocol

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import Pin, Pool
from s2t_eval.remote.protocol import SUPPORT, Drafted, DraftedStep, ServerUsage, draft_body, read_draft
from s2t_eval.remote.settings import ServerError


class Count(Protocol):
    """Counts the cost of a request for a text."""

    def __call__(self, seq: Sequence, usage: ServerUsage, is_begun: bool) -> None:
        """Count it.

        Args:
            seq: the text.
            usage: of the request.
            is_begun: whether tokens have been generated behind the prompt, of which the request computes the
                last one.
        """
        ...


class RemoteWriter:
    """Drafts chunks of text.

    Args:
        pool: its servers.
        text_vocab: ids from here on are no text.
        count: counts the cost of a draft.
    """

    def __init__(self, pool: Pool, text_vocab: int, count: Count) -> None:
        self.pool = pool
        self.text_vocab = text_vocab
        self._count_draft = count

    def pin(self, seq: Sequence) -> Pin:
        """The server of a text."""
        return self.pool.pin(seq.index)

    def release(self, seq: Sequence) -> None:
        """Nothing is kept for a text."""

    def close(self) -> None:
        """The HTTP session is the caller's."""

    async def draft(
        self, pin: Pin, seq: Sequence, limit: int, is_plain: bool, ahead: abc.Sequence[int] = ()
    ) -> list[DraftedStep]:
        """The next tokens of a text, at least one.

        Args:
            pin: of the text.
            seq: its prompt and tokens so far.
            limit: most tokens.
            is_plain: whether only the token itself is needed of each step.
            ahead: tokens behind the text that are not part of it yet; what is drafted follows them.
        """

        def count(usage: ServerUsage) -> None:
            self._count_draft(seq, usage, is_begun=bool(seq.output or ahead))

        stops = sorted(seq.request.stop_ids)
        return await draft_chunk(
            self.pool, pin, [*seq.ids, *ahead], stops, limit, is_plain, self.text_vocab, count
        )


async def draft_chunk(
    pool: Pool,
    pin: Pin,
    ids: abc.Sequence[int],
    stop_ids: abc.Sequence[int],
    limit: int,
    is_plain: bool,
    text_vocab: int,
    count: abc.Callable[[ServerUsage], None],
) -> list[DraftedStep]:
    """The greedy tokens of a server's model after `ids`, at least one.

    Args:
        pool: the servers.
        pin: of the text.
        ids: what the tokens follow.
        stop_ids: tokens behind which nothing is generated.
        limit: most tokens.
        is_plain: whether only the token itself is needed of each step.
        text_vocab: ids from here on are no text.
        count: called with the cost of every request.

    Raises:
        ServerError: none of the most likely tokens is text.
    """

    async def request(limit: int, num_top: int) -> list[DraftedStep]:
        def read(answer: object) -> Drafted:
            return read_draft(answer, limit, text_vocab, num_top)

        drafted = await pool.generate(pin, draft_body(ids, limit, stop_ids, num_top), read)
        count(drafted.usage)
        # Behind a step without a token of the text vocabulary nothing can stay.
        return list(itertools.takewhile(lambda step: step.ids, drafted.steps))

    # A plain text needs other tokens only where the server takes a row that is no text.
    steps = await request(limit, 1 if is_plain else SUPPORT)
    if not steps and is_plain:
        steps = await request(1, SUPPORT)
    if not steps:
        raise ServerError(
            f"{pool.role} server {pin.server.url}: none of its {SUPPORT} most likely tokens is text "
            f"(ids below {text_vocab}); does it serve the model of "
            f"{'pretrained' if pool.role == 'student' else 'teacher'}=?"
        )
    return steps
