"""JSON files of results, read with errors that name the file and the place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2t_eval.artifacts import json_lines
from s2t_eval.artifacts.typed_json import parse_json


class ResultsError(ValueError):
    """Results that cannot be read, or that lack an entry that is needed."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises `ResultsError` that names file and place of incomplete JSON."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{path}: not complete JSON (line {error.lineno}, column {error.colno}: {error.msg}); the run "
            "that wrote it may have been interrupted; run it again or remove the file"
        ) from error
    except ValueError as error:
        raise ResultsError(f"{path}: it cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def part_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a name; empty where it is missing or null, as entries are that do not apply."""
    part: dict[str, Any] = content.get(name) or {}
    return part


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; raises `ResultsError` that names the first unreadable line."""
    advice = "the file may have been cut off; run again or remove the file"
    return [line.record for line in json_lines.read_json_lines(path, ResultsError, advice=advice)]
