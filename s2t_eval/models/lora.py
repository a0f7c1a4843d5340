"""LoRA adapters: how one is added to a student, and where it lies; `lora_settings.py` has their size."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from s2t_eval.models.decoder_layers import decoder_layers
from s2t_eval.models.lora_settings import LoraSettings


def with_lora(base: PreTrainedModel, lora: LoraSettings, last_layers: int | None = None) -> PeftModel:
    """The student with a new adapter; its own weights are frozen.

    Args:
        base: the student.
        lora: size of the adapter.
        last_layers: number of the last layers that it changes; None: all.

    Raises:
        ValueError: more layers than the student has.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",  # attention and MLP; peft excludes the output head
        task_type="CAUSAL_LM",
    )
    if last_layers is not None:
        layers = _layers_of(base)
        if last_layers > len(layers):
            raise ValueError(f"last_layers: expected at most the student's {len(layers)}, got {last_layers}")
        # peft resolves "all-linear" to whole paths, to which it does not apply `layers_to_transform`.
        names = {name.split(".")[-1] for name, part in layers.named_modules() if isinstance(part, nn.Linear)}
        config.target_modules = sorted(names)
        config.layers_to_transform = list(range(len(layers) - last_layers, len(layers)))
    return get_peft_model(base, config)


def adapter_layers(model: nn.Module) -> list[Any]:
    """The modules that an adapter has changed: peft's layers, with a base layer in each."""
    return [
        module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    ]


def first_adapted_layer(model: PeftModel) -> int:
    """Index of the first decoder layer that the model's adapter changes; 0 if it changes what enters layers.

    With an adapter that changes no layer it is the number of layers.
    """
    base: Any = model.get_base_model()
    layers = _layers_of(base)
    within = [{id(module) for module in layer.modules()} for layer in layers]
    places = [
        next((i for i, ids in enumerate(within) if id(module) in ids), 0) for module in adapter_layers(base)
    ]
    return min(places, default=len(layers))


def _layers_of(base: PreTrainedModel) -> nn.ModuleList:
    return decoder_layers(base.get_decoder(), base.config.get_text_config(decoder=True).num_hidden_layers)
