"""Access to the outputs of some decoder layers during a forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class LayerTaps:
    """Stores the outputs of some layers in the last pass.

    Args:
        layers: the model's decoder layers.
        read: indices of the layers, from 0.
    """

    def __init__(self, layers: nn.ModuleList, read: Sequence[int]) -> None:
        self._states: dict[int, Tensor] = {}
        for number in read:
            layers[number].register_forward_hook(self._keeper(number))
        self.read = tuple(read)

    def take(self) -> Tensor:
        """Their concatenated outputs, [..., layers * hidden], which are then dropped."""
        states = torch.cat([self._states[number] for number in self.read], dim=-1)
        self._states.clear()
        return states

    def _keeper(self, number: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            state = output if isinstance(output, Tensor) else output[0]
            self._states[number] = state.detach()

        return keep
