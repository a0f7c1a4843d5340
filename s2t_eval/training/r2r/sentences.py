"""Where the sentences of a text end, in tokens.

A sentence ends with a line, or at a full stop, question mark or exclamation mark before whitespace (a
decimal point does not end it). Whitespace behind the end belongs to the sentence, so the next token begins
the next sentence.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

Decode = Callable[[Sequence[int]], str]

END = re.compile(r"[.!?][\"')\]*]*(?=\s)|[。！？]|(?=\n)")
STOPS = ("\n", ". ", "! ", "? ", "。", "！", "？")
"""Stop strings at which a sentence has ended; one with a space needs the first token of the next sentence."""


def prefix_lengths(ids: Sequence[int], decode: Decode) -> list[int]:
    """Number of characters, without whitespace at the end, of every prefix of a text, [tokens + 1]."""
    return [len(decode(ids[:count]).rstrip()) for count in range(len(ids) + 1)]


def sentence_ends(
    ids: Sequence[int], decode: Decode, known_lengths: Sequence[int] | None = None
) -> list[int]:
    """Numbers of tokens after which a sentence has ended, ascending.

    Args:
        ids: a text, or a part of one.
        decode: of their tokenizer, without special tokens.
        known_lengths: of `prefix_lengths`, where they are known; computing them decodes every prefix.
    """
    text = decode(ids)
    lengths = list(prefix_lengths(ids, decode) if known_lengths is None else known_lengths)
    for count in range(len(ids) - 1, -1, -1):
        # An unfinished multi-byte character is decoded differently once the next token completes it.
        lengths[count] = min(lengths[count], lengths[count + 1])
    end_lengths = {len(text[: end.end()].rstrip()) for end in END.finditer(text)} - {0}
    return sorted({bisect_right(lengths, end_length) - 1 for end_length in end_lengths})


class Continued(NamedTuple):
    """A sentence that begins before a position and continues behind it."""

    ids: list[int]
    """its tokens"""
    is_whole: bool
    """whether its end was found, rather than the end of the tokens"""


def sentence_begin(prefix: Sequence[int], decode: Decode, known_lengths: Sequence[int] | None = None) -> int:
    """Where the sentence begins that the token behind this prefix belongs to; see `sentence_ends`."""
    return max(sentence_ends(prefix, decode, known_lengths), default=0)


def sentence_through(ids: Sequence[int], position: int, decode: Decode) -> Continued:
    """The tokens up to the first sentence end that has words at or behind a position.

    Args:
        ids: from the beginning of a sentence on.
        position: of the token at which two continuations differ first.
        decode: of their tokenizer, without special tokens.
    """
    for end in sentence_ends(ids, decode):
        if end > position and decode(ids[position:end]).strip():
            return Continued(list(ids[:end]), True)
    return Continued(list(ids), False)
