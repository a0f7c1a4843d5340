"""Reader of JSON lines, for every file of them that is not compressed.

A record ends at a newline and nowhere else. `str.splitlines` also splits at U+2028, U+0085, form feed and
six more characters, which a model's text may contain and JSON does not escape.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MAX_SHOWN_CHARACTERS = 60


class JsonLine(NamedTuple):
    """A record and its line number, counted from 1."""

    number: int
    record: dict[str, Any]


def read_json_lines(
    path: Path, error: type[Exception] = ValueError, prefix: str = "", advice: str = ""
) -> Iterator[JsonLine]:
    """Yield the records of a file with one JSON object a line; empty lines are skipped.

    Args:
        path: a file in UTF-8, with or without a byte order mark, with LF or CRLF line ends.
        error: exception class for a file or a line that cannot be read; default `ValueError`.
        prefix: beginning of the message, before the path; default empty.
        advice: end of the message about a line; default empty.

    Raises:
        error: the file cannot be read, or a line is not one JSON object; the message names file and line.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if text.strip():
                    yield JsonLine(number, _record(text, f"{prefix}{path}, line {number}", error, advice))
    except OSError as fault:
        raise error(f"{prefix}{path}: it cannot be read ({fault.strerror})") from fault


def _record(line: bytes, where: str, error: type[Exception], advice: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except (
        ValueError,
        RecursionError,
    ):  # invalid JSON or UTF-8, or a number or nesting beyond Python's limits
        record = None
    if not isinstance(record, dict):
        shown = line.strip()[: 4 * MAX_SHOWN_CHARACTERS].decode(errors="replace")[:MAX_SHOWN_CHARACTERS]
        ending = f"; {advice}" if advice else ""
        raise error(f"{where}: expected one JSON object, got {shown!r}{ending}")
    return record
