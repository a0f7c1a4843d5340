"""Quantized teachers: loaded by the arguments of stock `hf`, equal to the same numbers held in plain weights.

Each method's package is optional; its test is skipped where the package is absent or does not run on this
machine's CPU. The extra `test` installs bitsandbytes.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from s2t_eval.embedded import embedded_path
from s2t_eval.model_wrappers.s2t import SelectToThink
from tests.harness_helpers import STUDENT, TEACHER, generation, prompts, tokenizer

COMMON = {"threshold": 0.05, "dtype": "float32", "device": "cpu", "batch_size": 4, "verify": 1}

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "bitsandbytes 4 bits": ("bitsandbytes", {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float32"}),
    "bitsandbytes 8 bits": ("bitsandbytes", {"load_in_8bit": True}),
    "quanto int8": ("optimum.quanto", {"quantization_config": {"quant_method": "quanto", "weights": "int8"}}),
    "torchao int8": (
        "torchao",
        {
            "quantization_config": {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}}},
            }
        },
    ),
}
"""Name -> its package, and the teacher's arguments without their `teacher_`."""


def plain_weight(layer: nn.Module, width: int) -> Tensor:
    """What a quantized linear multiplies with, [out, in]: its product with the unit vectors."""
    bias = layer(torch.zeros(1, width))
    weight: Tensor = layer(torch.eye(width)) - bias
    return weight.T.contiguous()


def dequantized(model: PreTrainedModel, folder: Path) -> str:
    """The embedded teacher with the weights that a quantized one multiplies with."""
    twin = AutoModelForCausalLM.from_pretrained(embedded_path(TEACHER), dtype="float32")
    quantized = dict(model.named_modules())
    changed = 0
    with torch.no_grad():
        for name, layer in twin.named_modules():
            if isinstance(layer, nn.Linear) and "lm_head" not in name:
                try:
                    weight = plain_weight(quantized[name], layer.in_features)
                except (
                    RuntimeError
                ) as error:  # of bitsandbytes with AVX-512: a width that is no multiple of 64
                    pytest.skip(f"{type(quantized[name]).__name__} does not run on this processor ({error})")
                changed += not torch.equal(weight, layer.weight)
                layer.weight.copy_(weight)
    assert changed > 0, "nothing was quantized"
    twin.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_quantized_teacher_selects_what_its_dequantized_twin_selects(method: str, tmp_path: Path) -> None:
    package, arguments = METHODS[method]
    try:
        importlib.import_module(package)
    except ImportError as error:
        pytest.skip(f"{package} is not installed here ({error})")
    options: dict[str, Any] = {f"teacher_{name}": value for name, value in arguments.items()}
    quantized = SelectToThink(STUDENT, teacher=TEACHER, **options, **COMMON)
    whole = SelectToThink(STUDENT, teacher=TEACHER, **COMMON)
    assert quantized.teacher is not None
    assert quantized.teacher_fingerprint != whole.teacher_fingerprint
    twin = SelectToThink(STUDENT, teacher=dequantized(quantized.teacher.base, tmp_path), **COMMON)
    asked = [generation(prompt, doc_id=i) for i, prompt in enumerate(prompts(6))]
    texts = quantized.generate_until(asked, disable_tqdm=True)
    assert texts == twin.generate_until(asked, disable_tqdm=True)
    assert all(text.strip() for text in texts)
