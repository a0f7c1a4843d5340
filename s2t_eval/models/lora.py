"""LoRA adapters: their settings, and how one is added to a student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from s2t_eval.ranges import AT_LEAST_1, DROPOUT, require_ranges


@dataclass(frozen=True)
class LoraSettings:
    """LoRA on attention and MLP.

    Args:
        rank: r of LoRA.
        alpha: of LoRA.
        dropout: of LoRA.

    Raises:
        ValueError: a value outside its range.
    """

    ERROR: ClassVar[type[ValueError]] = ValueError

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, self.ERROR, rank=AT_LEAST_1, alpha=AT_LEAST_1, dropout=DROPOUT)


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
