"""The residual block that Think-at-Hard's decider and R2R's router are made of."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualMlp(nn.Module):
    """A residual MLP: LayerNorm, four times the width, GELU, dropout.

    Args:
        width: of its input and output.
        dropout: in training, behind both linear layers.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, states: Tensor) -> Tensor:
        """[n, width] -> [n, width]."""
        added: Tensor = states + self.layers(states)
        return added
