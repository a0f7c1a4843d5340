"""Values between a program and its checks: Python's own types, read without running anything."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

PLAIN = (type(None), bool, int, float, complex, str, bytes)
BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    set: ("{", "}"),
    tuple: ("(", ",)"),
    frozenset: ("frozenset([", "])"),
}


class NotPlainError(ValueError):
    """A value that cannot be written down."""


class Opaque:
    """A result of a type of the program's own: equal to nothing, itself aside."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind} of the program>"


def literal(value: Any) -> str:
    """A value as a Python expression on one line.

    Raises:
        NotPlainError: a value that is not of Python's own types.
    """
    if type(value) in PLAIN:
        return repr(value)
    if type(value) is dict:
        return "{" + ",".join(f"{literal(k)}:{literal(v)}" for k, v in value.items()) + "}"
    if type(value) in BRACKETS:
        if not value and type(value) in (set, tuple):
            return "set()" if type(value) is set else "()"
        begin, end = BRACKETS[type(value)]
        return begin + ",".join(map(literal, value)) + end
    raise NotPlainError(f"a {type(value).__name__}, which is not of Python's own types")


def decode(reply: list[Any]) -> Any:
    """The value that a program's reply stands for.

    Raises:
        ValueError, TypeError, LookupError: it is not in the form that replies have.
    """
    kind, *rest = reply
    return READERS[kind](*rest)


def text_of(digits: str) -> str:
    """The string behind its bytes in hexadecimal."""
    return bytes.fromhex(digits).decode("utf-8", "surrogatepass")


def exception(name: str, text: str) -> Exception:
    """A built-in exception of this name.

    One that would end the checks without failing them (SystemExit) comes as a RuntimeError.
    """
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        return kind(text)
    except TypeError:  # UnicodeDecodeError and its like want five arguments
        return RuntimeError(text)


def _decode_all(values: list[Any]) -> list[Any]:
    return [decode(value) for value in values]


READERS: dict[str, Callable[..., Any]] = {
    "constant": {"None": None, "True": True, "False": False}.__getitem__,
    "int": lambda digits: int(digits, 16),
    "float": float.fromhex,
    "str": text_of,
    "bytes": bytes.fromhex,
    "complex": lambda real, imag: complex(float.fromhex(real), float.fromhex(imag)),
    "dict": lambda pairs: {decode(k): decode(v) for k, v in pairs},
    "list": _decode_all,
    "tuple": lambda values: tuple(_decode_all(values)),
    "set": lambda values: set(_decode_all(values)),
    "frozenset": lambda values: frozenset(_decode_all(values)),
    "iterator": lambda values: iter(_decode_all(values)),
    "range": lambda bounds: range(*decode(bounds)),
    "decimal": lambda digits: Decimal(text_of(digits)),
    "fraction": lambda parts: Fraction(*decode(parts)),
    "opaque": lambda kind: Opaque(text_of(kind)),
}
