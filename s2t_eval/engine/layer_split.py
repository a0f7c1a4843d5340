"""A model's decoder layers, split at one: passes over the layers below it, or from it on.

An adapter on the last layers alone leaves the layers below it as they are. What enters the first adapted
layer is then the same with and without the adapter, and so are all keys and values below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from s2t_eval.engine.attention import Pass
from s2t_eval.models.replaced_forwards import Replacements, forwards_replaced

KEPT = -1
"""In place of a layer's index: where a cache holds what entered the first layer of the upper part."""


class LayerSplit:
    """The layers below layer `first`, and those from it on.

    Args:
        layers: the decoder layers of a model.
        first: index of the first layer of the upper part.
    """

    def __init__(self, layers: nn.ModuleList, first: int) -> None:
        assert 0 < first < len(layers), "both parts have a layer"
        self.first = first
        self._below = list(layers[:first])
        self._above = list(layers[first:])

    @property
    def num_parameters_above(self) -> int:
        """Parameters of the upper layers."""
        return sum(weight.numel() for layer in self._above for weight in layer.parameters())

    @contextmanager
    def keeping(self, plan: Pass) -> Iterator[None]:
        """Write the states [tokens, hidden] that enter the upper part into the cache of a pass."""

        def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            plan.cache.write_joined(KEPT, plan.index, inputs[0][0][:, None], 1)

        handle = self._above[0].register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def only_below(self) -> Iterator[None]:
        """Compute the lower layers only; what the pass returns has no meaning."""
        with forwards_replaced(_skipping(self._above)):
            yield

    @contextmanager
    def only_above(self, states: Tensor) -> Iterator[None]:
        """Compute the upper layers only, from the states [tokens, hidden] that enter them."""

        def replace(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (states[None].to(inputs[0]), *inputs[1:])

        handle = self._above[0].register_forward_pre_hook(replace)
        try:
            with forwards_replaced(_skipping(self._below)):
                yield
        finally:
            handle.remove()


def is_splittable(layers: nn.ModuleList) -> bool:
    """Whether layers can be skipped: no hook of accelerate, which loads offloaded weights, is in them."""
    return not any("forward" in vars(layer) for layer in layers)


def _skipping(layers: list[nn.Module]) -> Replacements:
    """What lets these layers return their input."""
    return [(layer, _unchanged) for layer in layers]


def _unchanged(hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
    return hidden_states
