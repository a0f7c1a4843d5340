"""When a text has ended: stop tokens, stop strings that may span tokens, and the length limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s2t_eval.engine.request import Finish, Request

Decode = Callable[[Sequence[int]], str]

AnswerOf = Callable[[Sequence[int], bool], str | None]
"""Extracts the answer outside of a text's thoughts, from its tokens and whether it began inside a thought;
None while a thought is still open. A stop string ends the text if it is in the answer."""

MAX_SPLIT_BYTES = 4
"""Most tokens that one character of a stop string can consist of: its bytes in UTF-8."""


class StopRule:
    """Decides after each token whether the answer is complete.

    Where the request distinguishes thoughts, a stop string inside a thought has no effect. A text is
    searched for thoughts only after a stop string has matched, so thoughts add no cost to a token.

    Args:
        request: limits and stops of this answer.
        decode: token ids to text; None where no request has stop strings.
        answer_of: extracts the answer outside of the thoughts; None where no request needs it.
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
        """Why the answer ends with its last token, or None if it continues."""
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

    def before_end(self, output_ids: Sequence[int]) -> Sequence[int]:
        """The tokens in front of the stop token or stop string with which an answer ends; else all of them.

        A token in which both text and stop string lie is kept; white space in front of the string is not.
        """
        finish = self.would_finish(output_ids)
        if finish is Finish.STOP_ID:
            return output_ids[:-1]
        if finish is not Finish.STOP_STRING:
            return output_ids
        assert self._decode is not None
        first = max(len(output_ids) - self._window, self._num_thought)
        tail = self._decode(output_ids[first:])
        length = len(tail[: max(tail.rfind(stop) for stop in self._strings)].rstrip())
        end = len(output_ids)
        while end > first and len(self._decode(output_ids[first : end - 1])) >= length:
            end -= 1
        return output_ids[:end]

    def _is_outside_thoughts(self, output_ids: Sequence[int]) -> bool:
        """Whether a stop string that matched the last tokens is part of the answer."""
        in_thought = self._request.in_thought
        if self._answer_of is None or in_thought is None:
            return True
        answer = self._answer_of(output_ids, in_thought)
        if answer is None:
            self._num_thought = len(output_ids)  # the same stop string is not checked again
            return False
        assert self._decode is not None
        # A text without thoughts ends by its last tokens alone: the whole text may decode to other strings.
        return answer == self._decode(output_ids) or any(stop in answer for stop in self._strings)
