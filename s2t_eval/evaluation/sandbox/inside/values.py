"""Values between a program and its checks: Python's own types, read without running anything."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from decimal import Decimal
from fractions import Fraction
from typing import Any

PLAIN = (type(None), bool, int, float, str, bytes)
LARGE = 10**15
MOST_KIND = 200
CHANGEABLE = (list, dict, set)
MOST_ITEMS = 1_000_000
BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    set: ("{", "}"),
    tuple: ("(", ",)"),
    frozenset: ("frozenset([", "])"),
}


class NotPlainError(ValueError):
    """A value that cannot be written down, and that the checks made themselves."""


class ForeignError(ValueError):
    """A value that cannot be written down, and that came from the program."""


class Reference:
    """A thing of the program's that stays there, and may be an argument of a call.

    Args:
        expression: what it is called there.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression


class Opaque(Reference):
    """A result of a type of the program's own: equal to nothing, itself aside.

    Args:
        kind: name of its type.
        place: where the program keeps it, so that it can be an argument of another call.
    """

    def __init__(self, kind: str, place: int) -> None:
        super().__init__(f"kept[{place}]")
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind} of the program>"


def literal(value: Any) -> str:
    """A value as a Python expression on one line.

    Raises:
        NotPlainError: a value that is not of Python's own types.
        ForeignError: the same, but the program made it.
    """
    if type(value) is int and abs(value) > LARGE:
        return hex(value)  # in decimal it takes time in the square of its length
    if type(value) in PLAIN:
        return repr(value)
    if type(value) is dict:
        return "{" + ",".join(f"{literal(k)}:{literal(v)}" for k, v in value.items()) + "}"
    if type(value) in BRACKETS:
        if not value and type(value) in (set, tuple):
            return "set()" if type(value) is set else "()"
        begin, end = BRACKETS[type(value)]
        return begin + ",".join(map(literal, value)) + end
    return _other_literal(value)


def _other_literal(value: Any) -> str:
    """What replies may hold besides: it can be an argument again, so that no result ends the checks."""
    if type(value) is complex:
        return f"complex({value.real!r},{value.imag!r})"  # its own repr may hold `infj`
    if type(value) is range:
        return f"range({hex(value.start)},{hex(value.stop)},{hex(value.step)})"
    if type(value) is Decimal:
        return f"Decimal({str(value)!r})"
    if type(value) is Fraction:
        return f"Fraction({hex(value.numerator)},{hex(value.denominator)})"
    if isinstance(value, Reference):
        return value.expression
    if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        items = list(itertools.islice(value, MOST_ITEMS + 1))
        if len(items) > MOST_ITEMS:
            raise NotPlainError(f"an iterator of more than {MOST_ITEMS} items")
        return f"iter({literal(items)})"
    kind = f"a {type(value).__name__}, which is not of Python's own types"
    raise (ForeignError if isinstance(value, Exception) and is_raised(value) else NotPlainError)(kind)


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
        error = kind(text)
    except TypeError:  # UnicodeDecodeError and its like want five arguments
        error = RuntimeError(text)
    error.is_raised_by_the_program = True  # type: ignore[attr-defined]
    return error


def is_raised(error: Exception) -> bool:
    """Whether the program raised it."""
    return getattr(error, "is_raised_by_the_program", False)


def change_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], changed: list[Any]) -> None:
    """Make the arguments of a call what the function made of its own, as their caller would see it.

    Args:
        args, kwargs: of the call.
        changed: what became of those of them that are lists, dictionaries and sets.
    """
    before = [value for value in (*args, *kwargs.values()) if type(value) in CHANGEABLE]
    for value, after in zip(before, changed, strict=False):
        _change(value, after)


def _change(value: Any, after: Any) -> None:
    """Give a container the content of another of its type; one inside that is still there stays itself."""
    if type(value) is not type(after) or type(value) not in CHANGEABLE:
        return
    if type(value) is list:
        for place, item in enumerate(value[: len(after)]):
            after[place] = _changed_item(item, after[place])
        value[:] = after
    elif type(value) is dict:
        content = {key: _changed_item(value.get(key), item) for key, item in after.items()}
        value.clear()
        value.update(content)
    else:
        value.clear()
        value.update(after)


def _changed_item(item: Any, after: Any) -> Any:
    if type(item) is not type(after) or type(item) not in CHANGEABLE:
        return after
    _change(item, after)
    return item


def _opaque(kind: str, place: int) -> Opaque:
    if type(place) is not int:
        raise TypeError(f"expected a whole number for a place, got {type(place).__name__}")
    return Opaque(text_of(kind)[:MOST_KIND], place)


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
    "opaque": _opaque,
}
