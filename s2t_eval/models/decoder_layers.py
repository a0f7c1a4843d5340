"""The decoder layers of a model."""

from __future__ import annotations

from torch import nn


def decoder_layers(body: nn.Module, num_layers: int) -> nn.ModuleList:
    """The model's list of decoder layers, found by its type and length."""
    return next(
        child for child in body.children() if isinstance(child, nn.ModuleList) and len(child) == num_layers
    )
