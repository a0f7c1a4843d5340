"""A text as it grows: which characters each fired step wrote, and what can be shown already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from s2t_eval.engine import Finish, FiredStep

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a character decodes to while some of its bytes are still to come."""
CONTROL = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), ord(UNFINISHED)),
}
"""Control characters that a model may write, as visible ones: a terminal would obey them."""


class Span(NamedTuple):
    """Characters that fired steps wrote."""

    start: int
    end: int
    is_flip: bool
    """whether a step picked another token than the student's own"""


class Transcript:
    """The text of one request.

    Tokens are decoded a few at a time, beginning with the last piece of text that was complete: a
    character may be spread over tokens, and some tokenizers drop the space in front of a first token.

    Args:
        decode: token ids to text.
        stops: stop strings; what may be the beginning of one is not shown before it is known not to be.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self.text = ""
        self.spans: list[Span] = []
        self.is_finished = False
        self._decode = decode
        self._stops = [stop for stop in stops if stop]
        self._context = 0  # first token that is decoded again
        self._read = 0  # tokens whose text is complete
        self._num_seen = 0

    def update(self, output: Sequence[int], steps: Sequence[FiredStep], finish: Finish | None = None) -> None:
        """Take the tokens so far.

        Args:
            output: all generated tokens.
            steps: all steps that fired.
            finish: why the text ended; None while it goes on.
        """
        ids = list(output[:-1] if finish is Finish.STOP_ID else output)
        flips = {step.t: step.picked != step.greedy for step in steps[-(len(ids) - self._read) :]}
        before = len(self.text)
        for end in range(self._num_seen + 1, len(ids) + 1):
            self._extend(ids[:end], flips, is_last=finish is not None and end == len(ids))
        self._num_seen = len(ids)
        if finish is not None:
            self.is_finished = True
            if finish is Finish.STOP_STRING:
                self._cut(before)

    @property
    def shown(self) -> int:
        """Number of characters that no stop string can take back."""
        if self.is_finished:
            return len(self.text)
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-size:]) for stop in self._stops):
                return len(self.text) - size
        return len(self.text)

    def _extend(self, ids: list[int], flips: dict[int, bool], is_last: bool) -> None:
        known = self._decode(ids[self._context : self._read])
        text = self._decode(ids[self._context :])
        if not is_last and (len(text) <= len(known) or text.endswith(UNFINISHED)):
            return
        start = len(self.text)
        self.text += text[len(known) :].translate(CONTROL)
        fired = [flips[t] for t in range(self._read, len(ids)) if t in flips]
        if fired:
            self.spans.append(Span(start, len(self.text), any(fired)))
        self._context, self._read = self._read, len(ids)

    def _cut(self, before: int) -> None:
        """Drop the stop string that ended the text, and what follows it; it ends in the last piece."""
        first = max(0, before - max(map(len, self._stops)) + 1)
        places = [self.text.find(stop, first) for stop in self._stops]
        end = min((place for place in places if place >= 0), default=len(self.text))
        self.text = self.text[:end]
        self.spans = [span._replace(end=min(span.end, end)) for span in self.spans if span.start < end]
