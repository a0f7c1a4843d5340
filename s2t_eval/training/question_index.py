"""An index that finds benchmark questions in other texts, built from hashes only.

A question is stored as the hash of its letters and digits, and as hashes of up to 16 pieces of 16 characters
that are spread evenly over it. A text contains the question if its letters and digits are the same, or if
nearly all pieces, and all numbers between them, occur in it. Numbers are compared because many different
problems of one data set differ only in their numbers.
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
MIN_PIECES = 14
"""Pieces of 16 that must occur. With 14, one word may be spelled differently. With 13, eighteen problems of
MATH's training set are mistaken for test problems that share a figure or a phrase with them, with 14 four."""
SHORT, SHORTEST = 40, 12
"""A question of fewer than 40 characters can be part of a different question, and one of fewer than 12
characters can be part of any text."""
GENERIC = re.compile("(which|all|each|what)(one)?ofthefollowing")
SENTENCES = re.compile(r"\n+|(?<=[.?!:])\s+")
DIGITS = re.compile(r"\d+")


class Match(IntEnum):
    """Which part of a text must match a question."""

    TEXT = 0
    """the whole text"""
    SENTENCE = 1
    """one line or sentence of the text, or two consecutive ones"""
    SUBSTRING = 2
    """a line or sentence as above, or any part with all pieces"""
    PIECES = 3
    """any part with nearly all pieces and the numbers between them"""


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
    """A record of each different question, sorted by hash, so that their order is not published."""
    by_hash = {record[0]: record for record in map(_record, questions)}
    return np.array([by_hash[key] for key in sorted(by_hash)], dtype=RECORD)


class QuestionIndex:
    """An index of the questions of several benchmarks.

    Args:
        sets: benchmark -> records of its questions.
    """

    def __init__(self, sets: Mapping[str, Records]) -> None:
        self._names: list[str] = []
        self._records: list[Any] = []
        self._texts: dict[int, int] = {}
        self._sentences: set[int] = set()
        self._pieces: dict[int, list[int]] = defaultdict(list)
        for name, benchmark_records in sets.items():
            for record in benchmark_records:
                self._add(name, record)

    def find(self, text: str) -> str | None:
        """The benchmark whose question this text is or contains; None if there is none."""
        letters = normalised(text)
        number = self._texts.get(_hash(letters))
        if number is None:
            number = self._find_by_sentence(text)
        if number is None:
            number = self._find_by_pieces(letters)
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

    def _find_by_sentence(self, text: str) -> int | None:
        parts = [part for part in map(normalised, SENTENCES.split(text)) if part]
        pairs = [first + second for first, second in itertools.pairwise(parts)]
        for part in parts + pairs:
            if SHORTEST <= len(part) < SHORT and (value := _hash(part)) in self._sentences:
                return self._texts[value]
        return None

    def _find_by_pieces(self, letters: str) -> int | None:
        text_pieces = {piece for piece in _windows(letters) if piece in self._pieces}
        hits = Counter(number for piece in text_pieces for number in self._pieces[piece])
        text_numbers = DIGITS.findall(letters)
        for number, num_hits in hits.most_common():
            if self._is_contained(number, num_hits, text_pieces, text_numbers):
                return number
        return None

    def _is_contained(
        self, number: int, num_hits: int, text_pieces: set[int], text_numbers: Sequence[str]
    ) -> bool:
        """Whether enough of a question's pieces, and its numbers, occur in a text.

        Args:
            number: index of the question.
            num_hits: how many of its pieces occur in the text.
            text_pieces: the pieces of the text that belong to any question.
            text_numbers: the numbers of the text, in order.
        """
        record = self._records[number]
        pieces = record["pieces"][: record["num_pieces"]].tolist()
        total = len(set(pieces))
        if num_hits < (total if record["match"] == Match.SUBSTRING else total * MIN_PIECES / NUM_PIECES):
            return False
        end_pieces = [piece for bit, piece in ((1, pieces[0]), (2, pieces[-1])) if record["ends"] & bit]
        return text_pieces.issuperset(end_pieces) and _contains_run(
            text_numbers, int(record["num_numbers"]), int(record["numbers"])
        )


def _record(question: str) -> tuple[Any, ...]:
    letters = normalised(question)
    match = _match(letters)
    pieces = _spread_pieces(letters) if match >= Match.SUBSTRING else []
    padded = pieces + [0] * (NUM_PIECES - len(pieces))
    # Where a question begins or ends with a number, the text around it may continue that number. Such a
    # number is compared through the first or last piece, which must be equal.
    ends = letters[:1].isdigit() + 2 * letters[-1:].isdigit()
    numbers = DIGITS.finditer(letters)
    inner = [number[0] for number in numbers if number.start() > 0 and number.end() < len(letters)][:255]
    return _hash(letters), match, len(pieces), ends, len(inner), _joined(inner), padded


def _match(letters: str) -> Match:
    """The kind of match that a question of this length and wording needs."""
    if len(letters) >= SHORT:
        return Match.PIECES
    if len(letters) < SHORTEST or GENERIC.match(letters):
        return Match.TEXT
    has_pieces = len(letters) >= PIECE and DIGITS.search(letters)
    return Match.SUBSTRING if has_pieces else Match.SENTENCE


def _spread_pieces(letters: str) -> list[int]:
    """Hashes of evenly spaced pieces, with the first and the last."""
    windows = list(_windows(letters))
    count = min(NUM_PIECES, len(windows))
    last = len(windows) - 1
    return [windows[round(i * last / max(1, count - 1))] for i in range(count)]


def _windows(letters: str) -> Iterator[int]:
    """Hashes of the pieces at every offset."""
    text = letters.encode()
    return (zlib.crc32(text[i : i + PIECE]) for i in range(len(text) - PIECE + 1))


def _contains_run(numbers: Sequence[str], count: int, expected: int) -> bool:
    """Whether `count` consecutive numbers have the expected hash."""
    runs = (numbers[i : i + count] for i in range(len(numbers) - count + 1))
    return any(_joined(run) == expected for run in runs)


def _joined(numbers: Iterable[str]) -> int:
    """Hash of a sequence of numbers."""
    return zlib.crc32(" ".join(numbers).encode())


def _hash(letters: str) -> int:
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "little")
