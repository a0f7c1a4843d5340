"""When a text has ended: stop tokens, stop strings that may span tokens, and the length limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s2t_eval.engine.request import Finish, Request

Decode = Callable[[Sequence[int]], str]

AnswerOf = Callable[[Sequence[int], bool], str | None]
"""What a text says outside of its thoughts, None inside a thought that is open: from its tokens, and
whether it began inside a thought."""

MAX_SPLIT_BYTES = 4
"""Tokens that one character of a stop string can be spread over: its bytes in UTF-8."""


class StopRule:
    """Says after each token whether the answer is complete.

    A stop string inside a thought ends nothing, where the request tells thoughts apart. Thoughts are
    looked for only where a stop string has been found, so a token costs no more than without them.

    Args:
        request: limits and stops of this answer.
        decode: token ids to text; None where no request has stop strings.
        answer_of: tells thoughts from the answer; None where no request needs it.
    """

    def __init__(self, request: Request, decode: Decode | None, answer_of: AnswerOf | None = None) -> None:
        self._request = request
        self._strings = [stop for stop in request.stop_strings if stop]
        if self._strings and decode is None:
            raise ValueError("stop_strings: the decoder was built without a way to decode tokens")
        self._decode = decode
        self._answer_of = answer_of
        # Text that a new token completes lies within this many of the last tokens.
        self._window = MAX_SPLIT_BYTES * max(map(len, self._strings), default=0) + MAX_SPLIT_BYTES
        self._num_thought = 0  # leading tokens known to be thought

    def finish(self, output_ids: Sequence[int]) -> Finish | None:
        """Why the answer ends with its last token, or None if it goes on."""
        if output_ids[-1] in self._request.stop_ids:
            return Finish.STOP_ID
        if self._strings:
            assert self._decode is not None
            first = max(len(output_ids) - self._window, self._num_thought)
            tail = self._decode(output_ids[first:])
            if any(stop in tail for stop in self._strings) and self._is_outside_thoughts(output_ids):
                return Finish.STOP_STRING
        if len(output_ids) >= self._request.max_new_tokens:
            return Finish.LENGTH
        return None

    def would_finish(self, output_ids: Sequence[int]) -> Finish | None:
        """As `finish`, of tokens that may yet be discarded: what it finds about thoughts is not kept."""
        num_thought = self._num_thought
        finish = self.finish(output_ids)
        self._num_thought = num_thought
        return finish

    def _is_outside_thoughts(self, output_ids: Sequence[int]) -> bool:
        """Whether a stop string that was found among the last tokens stands in the answer."""
        in_thought = self._request.in_thought
        if self._answer_of is None or in_thought is None:
            return True
        answer = self._answer_of(output_ids, in_thought)
        if answer is None:
            self._num_thought = len(output_ids)  # the same stop string is not looked into again
            return False
        assert self._decode is not None
        # A text without thoughts ends by its last tokens alone: tokenizers may show them otherwise there.
        return answer == self._decode(output_ids) or any(stop in answer for stop in self._strings)
