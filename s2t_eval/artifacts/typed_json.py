"""Conversion of JSON to dataclasses, with checks of every type.

A file may have been edited, truncated or written by another version. Every problem is a `ValueError` with a
description, to which the caller adds the file and the advice. The schema is the dataclass's annotations;
there is no second one to keep in step.
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
MAX_SHOWN_CHARACTERS = 60
"""Characters of an invalid value that a message shows."""


class OtherFormatError(ValueError):
    """The file has another format number."""


def parse_json(text: str) -> Any:
    """Parse a JSON value; integers beyond the range of a float and too deep nesting are rejected as well.

    Raises:
        ValueError: the problem; `json.JSONDecodeError`, with its position, for invalid JSON.
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
    """Read a file that contains one JSON object.

    Raises:
        OSError: the file cannot be read.
        ValueError: the content is not JSON or not an object.
    """
    content = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, got {_shortened(content)}")
    return content


def require_format(content: Mapping[str, Any], known: Sequence[int]) -> int:
    """Return the format number of a saved object; call it before interpreting any other field.

    Args:
        content: the object; without the field `format` it has the first of the known formats.
        known: format numbers that can be read, the current one first.

    Raises:
        OtherFormatError: the number is not among them.
    """
    number = content.get("format", known[0])
    if isinstance(number, bool) or number not in known:
        raise OtherFormatError(f"has format {_shortened(number)}, expected {' or '.join(map(str, known))}")
    return int(number)


def conform(value: Any, hint: Any, name: str) -> Any:
    """Check a JSON value against a type annotation and convert it where necessary.

    Lists become tuples where the annotation is a tuple, objects become dataclasses.

    Args:
        value: a JSON value.
        hint: str, int, float (finite), bool, None, Any, list, dict, tuple, Literal, unions, dataclasses.
        name: name of the value in the message.

    Raises:
        ValueError: the value does not match the annotation.

    Example:
        >>> conform([1, 2], tuple[int, ...], "sizes")
        (1, 2)
    """
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _build_dataclass(value, hint, name)
    if origin in (Union, types.UnionType):
        return _conform_to_union(value, parts, name)
    if origin is Literal:
        is_valid = value in parts
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {key: conform(v, parts[1], _child_name(name, key)) for key, v in value.items()}
        is_valid = False
    elif origin in (list, tuple):
        if isinstance(value, list):
            items = [conform(v, parts[0], _child_name(name, i)) for i, v in enumerate(value)]
            return tuple(items) if origin is tuple else items
        is_valid = False
    else:
        is_valid = _is_plain(value, hint)
    if not is_valid:
        raise ValueError(f"{name or 'it'}: expected {_type_description(hint)}, got {_shortened(value)}")
    return value


def _is_plain(value: Any, hint: Any) -> bool:
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _conform_to_union(value: Any, hints: tuple[Any, ...], name: str) -> Any:
    if value is None and type(None) in hints:
        return None
    kinds = [hint for hint in hints if hint is not type(None)]
    if len(kinds) == 1:
        return conform(value, kinds[0], name)
    for kind in kinds:
        try:
            return conform(value, kind, name)
        except ValueError:
            continue  # the next type is tried; the message below names all of them
    expected = " or ".join(map(_type_description, kinds))
    raise ValueError(f"{name or 'it'}: expected {expected}, got {_shortened(value)}")


def _build_dataclass(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name or 'it'}: expected an object, got {_shortened(value)}")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    unknown = [key for key in value if key not in known]
    missing = [
        key
        for key, item in known.items()
        if key not in value and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing or unknown:
        problem = f"it has no {missing[0]!r}" if missing else f"it has an unknown {unknown[0]!r}"
        raise ValueError(f"{name}: {problem}" if name else problem)
    values = {key: conform(v, hints[key], _child_name(name, key)) for key, v in value.items()}
    try:
        return kind(**values)
    except ValueError as error:  # a check of the dataclass, which does not know its place
        if not name:
            raise
        is_of_field = str(error).partition(":")[0] in known
        raise ValueError(f"{name}{'.' if is_of_field else ': '}{error}") from error


def _child_name(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


TYPE_DESCRIPTIONS = {
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    list: "a list",
}


def _type_description(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    origin = get_origin(hint) or hint
    return TYPE_DESCRIPTIONS.get(origin, "an object" if origin in (dict, Mapping) else "a list")


def _shortened(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
