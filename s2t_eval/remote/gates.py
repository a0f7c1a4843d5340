"""Requests of two kinds that must not be in one batch of a server.

vLLM's first model runner returns nothing but its own token for a request with `logprobs` as soon as another
one of the same batch names `logprob_token_ids` (`v1/sample/sampler.py` of 0.32.0). A server gets both where a
student also scores candidates, where a teacher also writes, or where it serves both roles. The second model
runner keeps them apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

Kind = Literal[0, 1]
DRAFT: Kind = 0
SCORE: Kind = 1


def kind_of(body: Mapping[str, Any]) -> Kind:
    """The kind of a request, by its body."""
    return SCORE if "logprob_token_ids" in body["sampling_params"] else DRAFT


class Gate:
    """Opens for one kind of request at a time; any number of that kind pass together.

    When the last open request has ended, the requests of the other kind that are waiting at that moment pass
    first, so neither kind waits forever.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._open = [0, 0]
        self._waiting = [0, 0]
        self._may_go_first = [0, 0]

    @asynccontextmanager
    async def passing(self, kind: Kind) -> AsyncIterator[None]:
        """Wait until no request of the other kind is open; the request is open within the block."""
        async with self._changed:
            self._waiting[kind] += 1
            try:
                await self._changed.wait_for(lambda: self._is_free(kind))
            finally:
                self._waiting[kind] -= 1
                self._changed.notify_all()  # the other kind, if this one was cancelled
            self._open[kind] += 1
            self._may_go_first[kind] = max(0, self._may_go_first[kind] - 1)
        try:
            yield
        finally:
            async with self._changed:
                self._open[kind] -= 1
                if not self._open[kind]:
                    self._may_go_first[1 - kind] = self._waiting[1 - kind]
                    self._changed.notify_all()

    def _is_free(self, kind: Kind) -> bool:
        other = 1 - kind
        return not self._open[other] and (not self._waiting[other] or self._may_go_first[kind] > 0)
