"""Allowed values of settings: a range for each numeric field, and one message for values outside."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; NaN, infinities, texts and booleans are always outside.

    Args:
        text: the expected value in messages.
        low: smallest number.
        high: largest number.
        without: bounds that are themselves excluded.
        is_whole: whether only whole numbers are allowed.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    without: tuple[float, ...] = ()
    is_whole: bool = False

    def holds(self, value: object) -> bool:
        """Whether the value is in the range."""
        kinds = (int,) if self.is_whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return self.low <= value <= self.high and abs(value) != math.inf and value not in self.without

    def require(self, name: str, value: object, error: type[ValueError] = ValueError) -> None:
        """Raise `error` unless the value is in the range; the message names setting, range and value."""
        if not self.holds(value):
            raise error(f"{name}: expected {self.text}, got {value!r}")


def whole(low: int, high: float = math.inf) -> Range:
    """Whole numbers from `low` to `high`."""
    text = f"at least {low}" if high == math.inf else f"a whole number from {low} to {high}"
    return Range(text, low, high, is_whole=True)


AT_LEAST_0, AT_LEAST_1, AT_LEAST_2 = (whole(low) for low in range(3))
NOT_NEGATIVE = Range("0 or more", 0)
POSITIVE = Range("a number above 0", 0, without=(0,))
SHARE = Range("a share from 0 to 1", 0, 1)
PART = Range("a share above 0 and below 1", 0, 1, without=(0, 1))
DROPOUT = Range("a share of at least 0 and below 1", 0, 1, without=(1,))
RATE = Range("a rate between 0 and 1", 0, 1, without=(0, 1))
FIRING_RATE = Range("a rate above 0, at most 1 (every step)", 0, 1, without=(0,))
TOP_P = Range("in (0, 1]", 0, 1, without=(0,))
PROBABILITY = Range("a probability from 0 to 1", 0, 1)
SEED = whole(0, 2**63 - 1)


def require_ranges(settings: object, error: type[ValueError] = ValueError, /, **ranges: Range) -> None:
    """Raise `error` unless every named field of some settings is in its range; None is always allowed.

    The type of a field excludes None where it has to; here None means that the setting is absent.
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if value is not None:
            allowed.require(name, value, error)


def require_choice(
    name: str, value: object, choices: Iterable[str], error: type[ValueError] = ValueError
) -> None:
    """Raise `error` unless the value of a setting is one of the choices."""
    known = tuple(choices)
    if value not in known:
        raise error(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def require_unused(
    settings: object, names: Collection[str], because: str, error: type[ValueError] = ValueError
) -> None:
    """Raise `error` if a setting that has no effect beside the others differs from its default.

    Args:
        settings: a dataclass whose fields have defaults.
        names: the fields without effect.
        because: what makes them so, for the message, such as `rule=regret`.
        error: class of the error.
    """
    for name in names:
        value = getattr(settings, name)
        if value != getattr(type(settings), name):
            raise error(f"{name}: {because} does not use it, got {name}={value}; leave it out")
