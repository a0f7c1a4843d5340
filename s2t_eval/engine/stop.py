"""When a text has ended: stop tokens, stop strings that may span tokens, and the length limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s2t_eval.engine.request import Finish, Request

Decode = Callable[[Sequence[int]], str]

MAX_SPLIT_BYTES = 4
"""Tokens that one character of a stop string can be spread over: its bytes in UTF-8."""


class StopRule:
    """Says after each token whether the answer is complete.

    Args:
        request: limits and stops of this answer.
        decode: token ids to text; None where no request has stop strings.
    """

    def __init__(self, request: Request, decode: Decode | None) -> None:
        self._request = request
        self._strings = [stop for stop in request.stop_strings if stop]
        if self._strings and decode is None:
            raise ValueError("stop_strings: the decoder was built without a way to decode tokens")
        self._decode = decode
        # Text that a new token completes lies within this many of the last tokens.
        self._window = MAX_SPLIT_BYTES * max(map(len, self._strings), default=0) + MAX_SPLIT_BYTES

    def finish(self, output_ids: Sequence[int]) -> Finish | None:
        """Why the answer ends with its last token, or None if it goes on."""
        if output_ids[-1] in self._request.stop_ids:
            return Finish.STOP_ID
        if self._strings:
            assert self._decode is not None
            tail = self._decode(output_ids[-self._window :])
            if any(stop in tail for stop in self._strings):
                return Finish.STOP_STRING
        if len(output_ids) >= self._request.max_new_tokens:
            return Finish.LENGTH
        return None
