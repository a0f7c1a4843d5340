"""Settings of a looped model and its decider."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.ranges import AT_LEAST_1, DROPOUT, PROBABILITY, require_ranges

TOP_N = 100
MOST_DEPTH = 8
"""Passes for a token; the paper uses 2. Each adds a slot for every hard token to the cache."""
NUM_LAYERS_READ = 5


class TahError(ValueError):
    """Settings, labels or a folder that do not fit this run; the message names the difference."""


@dataclass(frozen=True)
class LoopedSettings(LoraSettings):
    """Iterations of a student, and the size of the adapter that is enabled from the second pass on.

    Args:
        dropout: dropout on the input of the LoRA matrices in training, a probability.
        max_depth: largest number of passes for a token; 1 is the plain student.
        top_n: number of tokens whose embeddings are mixed into the input of the next pass.
        train_base: train the student's own weights too (as the paper does), not the adapter alone.

    Raises:
        TahError: a value outside its range.
    """

    ERROR: ClassVar[type[ValueError]] = TahError

    max_depth: int = 2
    top_n: int = TOP_N
    dropout: float = 0.1
    train_base: bool = False

    def __post_init__(self) -> None:
        require_depth(self.max_depth)
        super().__post_init__()
        require_ranges(self, TahError, top_n=AT_LEAST_1)


@dataclass(frozen=True)
class DeciderSettings:
    """Size of the decider.

    Args:
        layers: decoder layers whose outputs are its input, counted from 0. Empty: five, evenly spaced from
            the first to the last but one, which are the paper's 0, 7, 13, 20, 26 of a model with 28.
        width: width of the decider's blocks.
        blocks: number of blocks of the decider.
        dropout: dropout of the decider in training, a probability.

    Raises:
        TahError: a value outside its range.
    """

    layers: tuple[int, ...] = ()
    width: int = 256
    blocks: int = 6
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require_ranges(self, TahError, width=AT_LEAST_1, blocks=AT_LEAST_1, dropout=DROPOUT)
        if len(set(self.layers)) < len(self.layers):
            raise TahError(f"layers: expected each layer once, got {', '.join(map(str, self.layers))}")

    def layers_of(self, num_layers: int) -> tuple[int, ...]:
        """The input layers in a model with this many layers.

        Raises:
            TahError: a layer that the model does not have.
        """
        outside = [layer for layer in self.layers if not 0 <= layer < num_layers]
        if outside:
            raise TahError(f"layers: expected numbers from 0 to {num_layers - 1}, got {outside[0]}")
        if self.layers:
            return self.layers
        last = max(0, num_layers - 2)
        steps = NUM_LAYERS_READ - 1
        return tuple(sorted({math.floor(last * i / steps + 0.5) for i in range(steps + 1)}))


def require_depth(depth: int) -> None:
    """Raise `TahError` unless it is a whole number from 1 to `MOST_DEPTH`."""
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise TahError(f"max_depth: expected a whole number of at least 1, got {depth!r}")
    if depth > MOST_DEPTH:
        raise TahError(f"max_depth: expected at most {MOST_DEPTH} passes a token, got {depth}")


def require_threshold(threshold: float) -> None:
    """Raise `TahError` unless it is a probability."""
    PROBABILITY.require("threshold", threshold, TahError)
