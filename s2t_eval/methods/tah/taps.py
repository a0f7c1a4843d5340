"""Reads the outputs of some decoder layers of a running model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def decoder_layers(body: nn.Module, num_layers: int) -> nn.ModuleList:
    """The model's list of decoder layers, whatever it is called."""
    return next(
        child for child in body.children() if isinstance(child, nn.ModuleList) and len(child) == num_layers
    )


class LayerTaps:
    """Keeps what some layers put out in the last pass.

    Args:
        layers: the model's decoder layers.
        read: which of them, from 0.
    """

    def __init__(self, layers: nn.ModuleList, read: Sequence[int]) -> None:
        self._states: dict[int, Tensor] = {}
        for number in read:
            layers[number].register_forward_hook(self._keeper(number))
        self.read = tuple(read)

    def take(self) -> Tensor:
        """Their outputs side by side, [..., layers * hidden]; forgets them."""
        states = torch.cat([self._states[number] for number in self.read], dim=-1)
        self._states.clear()
        return states

    def _keeper(self, number: int) -> Any:
        def keep(module: nn.Module, given: Any, output: Any) -> None:
            state = output if isinstance(output, Tensor) else output[0]
            self._states[number] = state.detach()

        return keep
