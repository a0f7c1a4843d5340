"""The size of a LoRA adapter; importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2t_eval.ranges import AT_LEAST_1, DROPOUT, require_ranges


@dataclass(frozen=True)
class LoraSettings:
    """LoRA on attention and MLP.

    Args:
        rank: rank r of the LoRA matrices.
        alpha: LoRA's alpha; an update is scaled by alpha / rank.
        dropout: dropout on the input of the LoRA matrices in training, a probability.

    Raises:
        ValueError: a value outside its range.
    """

    ERROR: ClassVar[type[ValueError]] = ValueError

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, self.ERROR, rank=AT_LEAST_1, alpha=AT_LEAST_1, dropout=DROPOUT)
