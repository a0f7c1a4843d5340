"""The reserved rows that score a candidate from its hidden state (S2T-Local, section 4 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Readout:
    """S(c) = v^T softmax(W h_c) with v = linspace(0, 1, bins): the expected bin, in [0, 1].

    The rows live in their own matrix instead of the model's output head, so they can neither leak
    into generation nor need spare vocabulary.

    Args:
        weight: the reserved rows W, [bins, hidden].
    """

    weight: Tensor

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.weight.shape[0] < 2:
            raise ValueError(
                f"readout: expected a matrix [bins >= 2, hidden], got {tuple(self.weight.shape)}"
            )

    def score(self, hidden: Tensor) -> Tensor:
        """Scores float32 [...] of candidates from their hidden states [..., hidden]."""
        logits = (hidden @ self.weight.to(hidden).T).float()
        values = torch.linspace(0, 1, self.weight.shape[0], device=logits.device)
        return logits.softmax(-1) @ values
