"""The arguments of quantization as what transformers loads a model with: one configuration object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import BitsAndBytesConfig, GgufConfig
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

BITS = ("load_in_4bit", "load_in_8bit")
BNB_OPTIONS = ("bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")


def require_quantization(stock: Mapping[str, Any], prefix: str) -> None:
    """Raise `ValueError` for arguments of quantization that contradict each other.

    Args:
        stock: stock `hf`'s arguments of one model.
        prefix: `teacher_` for those of a teacher, empty for those of the student; for messages.
    """
    ways = [
        name
        for name in (*BITS, "quantization_config", "gguf_file", "autogptq", "gptqmodel")
        if stock.get(name)
    ]
    if len(ways) > 1:
        raise ValueError(
            f"{prefix}{ways[0]}, {prefix}{ways[1]}: expected one way of quantization, got both; leave one out"
        )
    options = [name for name in BNB_OPTIONS if stock.get(name) is not None]
    if options and ways != ["load_in_4bit"]:
        raise ValueError(
            f"{prefix}{options[0]}: it belongs to {prefix}load_in_4bit=True; add that, or leave it out"
        )
    config = stock.get("quantization_config")
    if config is None or isinstance(config, QuantizationConfigMixin):
        return
    if not isinstance(config, Mapping) or not config.get("quant_method"):
        raise ValueError(
            f"{prefix}quantization_config: expected a dictionary with quant_method (in --model_args as JSON, "
            f'such as {{"quant_method": "quanto", "weights": "int8"}}), got {config!r}'
        )


def with_quantization_config(loading: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `from_pretrained` with one `quantization_config` in place of those of quantization.

    transformers 5 no longer takes `load_in_4bit`, `load_in_8bit` and their options themselves, which stock
    `hf` still gives it.

    Args:
        loading: may name bitsandbytes' options, a dictionary or object `quantization_config`, or `gguf_file`,
            whose blocks are unpacked.

    Raises:
        ValueError: a method or options that transformers does not have.
        ImportError: a package that the method needs is not installed.
    """
    kept = {name: value for name, value in loading.items() if name not in (*BITS, *BNB_OPTIONS)}
    config = loading.get("quantization_config")
    if loading.get("gguf_file"):
        config = GgufConfig(dequantize=True)
    elif any(loading.get(name) for name in BITS):
        options = {name: loading[name] for name in (*BITS, *BNB_OPTIONS) if loading.get(name) is not None}
        config = BitsAndBytesConfig(**options)
    elif isinstance(config, Mapping):
        config = AutoQuantizationConfig.from_dict(dict(config))
    return {**kept, "quantization_config": config}
