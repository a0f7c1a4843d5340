"""Other forward methods of some modules of a model, for the time of one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

Replacements = Sequence[tuple[nn.Module, Callable[..., Any]]]
"""Modules, each with what is called in the place of its forward method."""


@contextmanager
def forwards_replaced(replacements: Replacements) -> Iterator[None]:
    """Replace the forward methods of modules none of which has a replaced one already."""
    try:  # Ctrl-C may come between two modules
        for module, forward in replacements:
            module.forward = forward
        yield
    finally:
        for module, _ in replacements:
            module.__dict__.pop("forward", None)
