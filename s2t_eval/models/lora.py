"""LoRA adapters: how one is added to a student; `lora_settings.py` has their size."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from s2t_eval.models.lora_settings import LoraSettings as LoraSettings


def with_lora(base: PreTrainedModel, lora: LoraSettings) -> PeftModel:
    """The student with a new adapter; its own weights are frozen."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",  # attention and MLP; peft excludes the output head
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)
