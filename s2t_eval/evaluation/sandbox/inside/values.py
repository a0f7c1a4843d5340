"""Exchange of values between a program and its checks: built-in types, decoded without executing code."""

from __future__ import annotations

import builtins
import itertools
import re
import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from decimal import Decimal
from fractions import Fraction
from typing import Any

SCALAR_TYPES = (type(None), bool, int, float, str, bytes)
MAX_DECIMAL = 10**15
MAX_TYPE_NAME = 200
NUMERIC_TYPE = re.compile(r"[<>|](?:[biuf][1248]|c8|c16)")
"""Numpy's names of the types of numbers, such as `<f8`."""
MUTABLE_TYPES = (list, dict, set)
MAX_ITEMS = 1_000_000
BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    set: ("{", "}"),
    tuple: ("(", ",)"),
    frozenset: ("frozenset([", "])"),
}


class UnsupportedValueError(ValueError):
    """A value that cannot be encoded and was created by the checks."""


class ProgramValueError(ValueError):
    """A value that cannot be encoded and was created by the program."""


class Reference:
    """An object in the program's process, which may be an argument of a call.

    Args:
        expression: Python expression that refers to it in the program's process.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression


class Opaque(Reference):
    """A result whose type the program defines; it is equal only to itself.

    Args:
        kind: name of its type.
        index: its index among the program's retained results, so that it can be an argument of another call.
    """

    def __init__(self, kind: str, index: int) -> None:
        super().__init__(f"retained[{index}]")
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind} of the program>"


def to_literal(value: Any) -> str:
    """Encode a value as a Python expression on one line.

    Raises:
        UnsupportedValueError: a value created by the checks is not of a built-in type.
        ProgramValueError: a value created by the program is not of a built-in type.

    Example:
        >>> to_literal({"a": [1, 2.5]})
        "{'a':[1,2.5]}"
    """
    if type(value) is int and abs(value) > MAX_DECIMAL:
        return hex(value)  # conversion to decimal takes quadratic time
    if type(value) in SCALAR_TYPES:
        return repr(value)
    if type(value) is dict:
        return "{" + ",".join(f"{to_literal(k)}:{to_literal(v)}" for k, v in value.items()) + "}"
    if type(value) in BRACKETS:
        if not value and type(value) in (set, tuple):
            return "set()" if type(value) is set else "()"
        begin, end = BRACKETS[type(value)]
        return begin + ",".join(map(to_literal, value)) + end
    return _other_to_literal(value)


def _other_to_literal(value: Any) -> str:
    """Encode the other types that replies may contain, so that every result can be an argument again."""
    if type(value) is complex:
        # `repr` of a complex number may contain `infj`, which is not a valid expression.
        return f"complex({value.real!r},{value.imag!r})"
    if type(value) is range:
        return f"range({hex(value.start)},{hex(value.stop)},{hex(value.step)})"
    if type(value) is Decimal:
        return f"Decimal({str(value)!r})"
    if type(value) is Fraction:
        return f"Fraction({hex(value.numerator)},{hex(value.denominator)})"
    if isinstance(value, Reference):
        return value.expression
    if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        items = list(itertools.islice(value, MAX_ITEMS + 1))
        if len(items) > MAX_ITEMS:
            raise UnsupportedValueError(f"an iterator of more than {MAX_ITEMS} items")
        return f"iter({to_literal(items)})"
    kind = f"a {type(value).__name__}, which is not a built-in type"
    raise (
        ProgramValueError
        if isinstance(value, Exception) and is_raised_by_program(value)
        else UnsupportedValueError
    )(kind)


def decode(reply: list[Any]) -> Any:
    """Decode the value of a program's reply.

    Raises:
        ValueError, TypeError, LookupError: the reply is malformed.
    """
    kind, *rest = reply
    return DECODERS[kind](*rest)


def decode_text(digits: str) -> str:
    """Decode a string from its UTF-8 bytes in hexadecimal."""
    return bytes.fromhex(digits).decode("utf-8", "surrogatepass")


def rebuild_exception(name: str, text: str) -> Exception:
    """Create the built-in exception of that name.

    An exception that would end the checks without failing them (SystemExit) becomes a RuntimeError.
    """
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        error = kind(text)
    except TypeError:  # UnicodeDecodeError and similar types require five arguments
        error = RuntimeError(text)
    error.is_raised_by_the_program = True  # type: ignore[attr-defined]
    return error


def is_raised_by_program(error: Exception) -> bool:
    """Whether the program raised the exception."""
    return getattr(error, "is_raised_by_the_program", False)


def update_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], changed: list[Any]) -> None:
    """Apply the changes that a function made to its mutable arguments to the caller's objects.

    Args:
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        changed: final values of those arguments that are lists, dictionaries and sets.
    """
    before = [value for value in (*args, *kwargs.values()) if type(value) in MUTABLE_TYPES]
    for value, after in zip(before, changed, strict=False):
        _update_container(value, after)


def _update_container(value: Any, after: Any) -> None:
    """Replace the content of a container; nested containers that still exist keep their identity."""
    if type(value) is not type(after) or type(value) not in MUTABLE_TYPES:
        return
    if type(value) is list:
        for index, item in enumerate(value[: len(after)]):
            after[index] = _updated_item(item, after[index])
        value[:] = after
    elif type(value) is dict:
        content = {key: _updated_item(value.get(key), item) for key, item in after.items()}
        value.clear()
        value.update(content)
    else:
        value.clear()
        value.update(after)


def _updated_item(item: Any, after: Any) -> Any:
    if type(item) is not type(after) or type(item) not in MUTABLE_TYPES:
        return after
    _update_container(item, after)
    return item


def _opaque(kind: str, index: int) -> Opaque:
    if type(index) is not int:
        raise TypeError(f"expected an integer as index, got {type(index).__name__}")
    return Opaque(decode_text(kind)[:MAX_TYPE_NAME], index)


def _array(dtype: str, items: list[Any], index: int) -> Any:
    """An array, or an opaque value for checks that did not import numpy."""
    numpy, name = sys.modules.get("numpy"), decode_text(dtype)
    if numpy is None or NUMERIC_TYPE.fullmatch(name) is None:
        return _opaque(b"ndarray".hex(), index)
    return numpy.array(decode(items), name)


def _decode_all(values: list[Any]) -> list[Any]:
    return [decode(value) for value in values]


DECODERS: dict[str, Callable[..., Any]] = {
    "constant": {"None": None, "True": True, "False": False}.__getitem__,
    "int": lambda digits: int(digits, 16),
    "float": float.fromhex,
    "str": decode_text,
    "bytes": bytes.fromhex,
    "complex": lambda real, imag: complex(float.fromhex(real), float.fromhex(imag)),
    "dict": lambda pairs: {decode(k): decode(v) for k, v in pairs},
    "list": _decode_all,
    "tuple": lambda values: tuple(_decode_all(values)),
    "set": lambda values: set(_decode_all(values)),
    "frozenset": lambda values: frozenset(_decode_all(values)),
    "iterator": lambda values: iter(_decode_all(values)),
    "range": lambda bounds: range(*decode(bounds)),
    "decimal": lambda digits: Decimal(decode_text(digits)),
    "fraction": lambda parts: Fraction(*decode(parts)),
    "opaque": _opaque,
    "array": _array,
}
