"""Reads JSON lines: the one place that says where a record ends.

A record ends at a newline and nowhere else. `str.splitlines` also ends a line at U+2028, U+0085, a form
feed and six more, which a model's text may hold and JSON leaves as they are.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SHOWN = 60


class JsonLine(NamedTuple):
    """A record, and the number of its line, counted from 1."""

    number: int
    record: dict[str, Any]


def read_json_lines(
    path: Path, error: type[Exception] = ValueError, prefix: str = "", advice: str = ""
) -> Iterator[JsonLine]:
    """The records of a file, one JSON object a line; empty lines are left out.

    Args:
        path: UTF-8, with or without a byte order mark, with either system's line ends.
        error: what a file or a line that cannot be read raises.
        prefix: what its message begins with, before the path.
        advice: what it ends with.

    Raises:
        error: no such file, or a line that is not one JSON object; names file and line.
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
    except (ValueError, RecursionError):  # no JSON or no UTF-8; a number or a nesting that Python refuses
        record = None
    if not isinstance(record, dict):
        shown = line.strip()[: 4 * SHOWN].decode(errors="replace")[:SHOWN]
        ending = f"; {advice}" if advice else ""
        raise error(f"{where}: expected one JSON object, got {shown!r}{ending}")
    return record
