"""Finding benchmark questions inside other texts, from hashes alone.

A question is kept as the hash of its letters and digits, and as hashes of up to 16 pieces of 16 characters
that are spread evenly over it. A text holds the question if it is the same letters and digits, or if nearly
all the pieces and all the numbers between them occur in it. Numbers are compared because many problems of
one data set differ in nothing else, and those are other problems.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from s2t_eval.training.question_text import normalised

PIECE = 16
"""Characters of a piece: three or four words."""
NUM_PIECES = 16
LEAST_PIECES = 14
"""Of 16 pieces: 14 allow one word to be spelled otherwise. At 13, eighteen problems of MATH's training set
count as others that they share a figure or a turn of phrase with, at 14 four."""
SHORT, SHORTEST = 40, 12
"""A text of fewer than 40 characters can be part of another question, one of fewer than 12 of any."""
GENERIC = re.compile("(which|all|each|what)(one)?ofthefollowing")
SENTENCES = re.compile(r"\n+|(?<=[.?!:])\s+")
DIGITS = re.compile(r"\d+")


class Match(IntEnum):
    """What of another text has to be a question's."""

    TEXT = 0
    """all of it"""
    SENTENCE = 1
    """one of its lines or sentences, or two in a row"""
    SUBSTRING = 2
    """a sentence, or any part that has all pieces"""
    PIECES = 3
    """nearly all pieces, and the numbers"""


RECORD = np.dtype(
    [
        ("text", "<u8"),
        ("match", "u1"),
        ("num_pieces", "u1"),
        ("ends", "u1"),
        ("num_numbers", "u1"),
        ("numbers", "<u4"),
        ("pieces", "<u4", NUM_PIECES),
    ]
)
Records = npt.NDArray[np.void]


def records(questions: Iterable[str]) -> Records:
    """A record of each different question, in an order that says nothing about theirs."""
    found = {record[0]: record for record in map(_record, questions)}
    return np.array([found[key] for key in sorted(found)], dtype=RECORD)


class QuestionIndex:
    """Questions of some benchmarks, to be found in texts.

    Args:
        sets: benchmark -> records of its questions.
    """

    def __init__(self, sets: Mapping[str, Records]) -> None:
        self._names: list[str] = []
        self._records: list[Any] = []
        self._texts: dict[int, int] = {}
        self._sentences: set[int] = set()
        self._pieces: dict[int, list[int]] = defaultdict(list)
        for name, found in sets.items():
            for record in found:
                self._add(name, record)

    def find(self, text: str) -> str | None:
        """The benchmark whose question this text is or holds; None if there is none."""
        letters = normalised(text)
        number = self._texts.get(_hash(letters))
        if number is None:
            number = self._sentence(text)
        if number is None:
            number = self._by_pieces(letters)
        return None if number is None else self._names[number]

    def _add(self, name: str, record: Any) -> None:
        number = len(self._names)
        self._names.append(name)
        self._records.append(record)
        self._texts.setdefault(int(record["text"]), number)
        if record["match"] in (Match.SENTENCE, Match.SUBSTRING):
            self._sentences.add(int(record["text"]))
        for piece in set(record["pieces"][: record["num_pieces"]].tolist()):
            self._pieces[piece].append(number)

    def _sentence(self, text: str) -> int | None:
        parts = [part for part in map(normalised, SENTENCES.split(text)) if part]
        pairs = [first + second for first, second in itertools.pairwise(parts)]
        for part in parts + pairs:
            if SHORTEST <= len(part) < SHORT and (value := _hash(part)) in self._sentences:
                return self._texts[value]
        return None

    def _by_pieces(self, letters: str) -> int | None:
        known = {piece for piece in _windows(letters) if piece in self._pieces}
        hits = Counter(number for piece in known for number in self._pieces[piece])
        numbers = DIGITS.findall(letters)
        for number, count in hits.most_common():
            if self._fits(number, count, known, numbers):
                return number
        return None

    def _fits(self, number: int, count: int, known: set[int], numbers: Sequence[str]) -> bool:
        """Whether so many of a question's pieces, and its numbers among a text's, are enough."""
        record = self._records[number]
        pieces = record["pieces"][: record["num_pieces"]].tolist()
        total = len(set(pieces))
        if count < (total if record["match"] == Match.SUBSTRING else total * LEAST_PIECES / NUM_PIECES):
            return False
        needed = [piece for bit, piece in ((1, pieces[0]), (2, pieces[-1])) if record["ends"] & bit]
        return known.issuperset(needed) and _in_a_row(
            numbers, int(record["num_numbers"]), int(record["numbers"])
        )


def _record(question: str) -> tuple[Any, ...]:
    letters = normalised(question)
    match = _match(letters)
    pieces = _spread(letters) if match >= Match.SUBSTRING else []
    padded = pieces + [0] * (NUM_PIECES - len(pieces))
    # A text around the question may go on with a number at either end: there the piece must be the same.
    ends = letters[:1].isdigit() + 2 * letters[-1:].isdigit()
    found = DIGITS.finditer(letters)
    inner = [number[0] for number in found if number.start() > 0 and number.end() < len(letters)][:255]
    return _hash(letters), match, len(pieces), ends, len(inner), _joined(inner), padded


def _match(letters: str) -> Match:
    if len(letters) >= SHORT:
        return Match.PIECES
    if len(letters) < SHORTEST or GENERIC.match(letters):
        return Match.TEXT
    has_pieces = len(letters) >= PIECE and DIGITS.search(letters)
    return Match.SUBSTRING if has_pieces else Match.SENTENCE


def _spread(letters: str) -> list[int]:
    """Hashes of pieces at even distances, the first and the last among them."""
    windows = list(_windows(letters))
    count = min(NUM_PIECES, len(windows))
    last = len(windows) - 1
    return [windows[round(i * last / max(1, count - 1))] for i in range(count)]


def _windows(letters: str) -> Iterator[int]:
    text = letters.encode()
    return (zlib.crc32(text[i : i + PIECE]) for i in range(len(text) - PIECE + 1))


def _in_a_row(numbers: Sequence[str], count: int, expected: int) -> bool:
    """Whether `count` of the numbers, one after the other, have the expected hash."""
    rows = (numbers[i : i + count] for i in range(len(numbers) - count + 1))
    return any(_joined(row) == expected for row in rows)


def _joined(numbers: Iterable[str]) -> int:
    return zlib.crc32(" ".join(numbers).encode())


def _hash(letters: str) -> int:
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "little")
