"""The strength of a selector's adapter in a model, and a switch that enables it for a pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from peft.tuners.lora import LoraLayer

from s2t_eval.models.lora import adapter_layers


def scale_adapter(model: PeftModel, scale: float) -> None:
    """Multiply the adapter's contribution by `scale`."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            for name in layer.active_adapters:
                layer.set_scale(name, scale)


class AdapterSwitch:
    """Enables the adapter of a model, in which it is otherwise disabled (proposer `base`), for a pass.

    peft's own switch goes through all modules and changes which weights need a gradient: 14 ms for 24 layers,
    a good part of a decode step. Here the layers are looked up once and only their flag is changed.

    Args:
        model: its adapter is attached already.
    """

    def __init__(self, model: PeftModel) -> None:
        self._layers = adapter_layers(model)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A block in which the adapter is enabled."""
        self._set_disabled(False)
        try:
            yield
        finally:
            self._set_disabled(True)

    def _set_disabled(self, is_disabled: bool) -> None:
        for layer in self._layers:
            layer._disable_adapters = is_disabled
