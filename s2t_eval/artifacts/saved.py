"""Reading JSON that somebody may have edited, cut off or written by another version.

Whatever is wrong with a file is a `ValueError` that says what, so that each reader can name the file and
what to do. The types come from the annotations: no schema stands beside the dataclasses.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

SavedT = TypeVar("SavedT")
SHOWN = 60
"""Characters of a wrong value that a message shows."""


class OtherFormatError(ValueError):
    """A file of another version of the format."""


def parse_json(text: str) -> Any:
    """A JSON value; numbers that no float can hold and nesting beyond the parser are refused as well.

    Raises:
        ValueError: what is wrong; `json.JSONDecodeError`, with its place, where it is no JSON.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _integer(digits: str) -> int:
    if len(digits) > 308:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON, or no object.
    """
    content = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, got {_shown(content)}")
    return content


def require_format(content: Mapping[str, Any], known: Sequence[int]) -> int:
    """The number of a saved object's format; compared before anything else, for the rest depends on it.

    Args:
        content: the object; one without the field has the first of the known formats.
        known: formats that are read here, the present one first.

    Raises:
        OtherFormatError: another format.
    """
    number = content.get("format", known[0])
    if isinstance(number, bool) or number not in known:
        raise OtherFormatError(f"has format {_shown(number)}, expected {' or '.join(map(str, known))}")
    return int(number)


def conform(value: Any, hint: Any, name: str) -> Any:
    """The value as its annotation wants it.

    Args:
        value: of JSON.
        hint: str, int, float (finite), bool, None, Any, list, dict, tuple, Literal, unions, dataclasses.
        name: of the value, for the message.

    Raises:
        ValueError: a value of another type.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _make(value, hint, name)
    if origin in (Union, types.UnionType):
        return _first_of(value, parts, name)
    if origin is Literal:
        fits = value in parts
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {key: conform(v, parts[1], _inside(name, key)) for key, v in value.items()}
        fits = False
    elif origin in (list, tuple):
        if isinstance(value, list):
            of_items = [conform(v, parts[0], _inside(name, i)) for i, v in enumerate(value)]
            return tuple(of_items) if origin is tuple else of_items
        fits = False
    else:
        fits = _is_plain(value, hint)
    if not fits:
        raise ValueError(f"{name or 'it'}: expected {_said(hint)}, got {_shown(value)}")
    return value


def _is_plain(value: Any, hint: Any) -> bool:
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _first_of(value: Any, hints: tuple[Any, ...], name: str) -> Any:
    if value is None and type(None) in hints:
        return None
    kinds = [hint for hint in hints if hint is not type(None)]
    if len(kinds) == 1:
        return conform(value, kinds[0], name)
    for kind in kinds:
        try:
            return conform(value, kind, name)
        except ValueError:
            continue  # the next kind is tried; the message below names them all
    expected = " or ".join(map(_said, kinds))
    raise ValueError(f"{name or 'it'}: expected {expected}, got {_shown(value)}")


def _make(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name or 'it'}: expected an object, got {_shown(value)}")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    unknown = [key for key in value if key not in known]
    missing = [
        key
        for key, item in known.items()
        if key not in value and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing or unknown:
        what = f"it has no {missing[0]!r}" if missing else f"it has an unknown {unknown[0]!r}"
        raise ValueError(f"{name}: {what}" if name else what)
    return kind(**{key: conform(v, hints[key], _inside(name, key)) for key, v in value.items()})


def _inside(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    list: "a list",
}


def _said(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    origin = get_origin(hint) or hint
    return WORDS.get(origin, "an object" if origin in (dict, Mapping) else "a list")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
