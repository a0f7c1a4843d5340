"""The size of R2R's router; importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from s2t_eval.ranges import AT_LEAST_1, DROPOUT, require_ranges


@dataclass(frozen=True)
class RouterSize:
    """The size of the router. The paper's is width 1024; 256 has a tenth of its parameters.

    Args:
        width: width of the residual blocks.
        blocks: number of residual blocks.
        num_logits: number of the student's largest logits that the router reads.
        dropout: probability of dropout in training.

    Raises:
        ValueError: a value outside its range.
    """

    width: int = 256
    blocks: int = 6
    num_logits: int = 100
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require_ranges(self, width=AT_LEAST_1, blocks=AT_LEAST_1, num_logits=AT_LEAST_1, dropout=DROPOUT)
