"""The student behind a server, whose drafts are counted as its own passes."""

from __future__ import annotations

from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.client import Pool
from s2t_eval.remote.protocol import ServerUsage
from s2t_eval.remote.writer import RemoteWriter

UNBOUNDED_CHUNK = 256
"""Tokens a request where no step is selected or sampled: only a stop string can discard any of them."""


class RemoteStudent(RemoteWriter):
    """Drafts chunks of text.

    Args:
        pool: its servers.
        text_vocab: ids from here on are no text.
    """

    def __init__(self, pool: Pool, text_vocab: int) -> None:
        super().__init__(pool, text_vocab, _count_draft)


def _count_draft(seq: Sequence, usage: ServerUsage, is_begun: bool) -> None:
    seq.usage.server_requests += 1
    seq.usage.forwards += usage.generated
    # The next request computes the last generated token, which counts as one of the text.
    seq.usage.prefill_tokens += max(0, usage.computed - is_begun)
