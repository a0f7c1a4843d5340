"""How an adapter is put into a student."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel


def with_lora(base: PreTrainedModel, rank: int, alpha: int, dropout: float) -> PeftModel:
    """The student with LoRA on attention and MLP; its own weights are frozen."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",  # attention and MLP; peft leaves the output head out
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)
