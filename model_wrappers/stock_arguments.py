"""Early checks of stock `hf`'s arguments: those that would fail late or be replaced silently are refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from s2t_eval.model_wrappers.argument_checks import require_int
from s2t_eval.model_wrappers.quantization import require_quantization
from s2t_eval.models.loading import devices, require_device, require_dtype
from s2t_eval.ranges import AT_LEAST_1

HARNESS_DEVICE = "cuda:0"
"""The device that lm_eval's command passes without `--device`."""


def require_stock(stock: Mapping[str, Any]) -> None:
    """Raise `ValueError` for one of stock `hf`'s arguments that would fail late, or be replaced silently."""
    require_loading(stock)
    for name in ("batch_size", "max_batch_size"):
        size = stock.get(name)
        number, _, repeats = str(size).partition(":")
        if size is None or (
            name == "batch_size" and number == "auto" and (not repeats or repeats.isdecimal())
        ):
            continue
        value = int(size) if isinstance(size, str) and size.isdecimal() else size
        if not AT_LEAST_1.holds(value):
            also = ", or auto" if name == "batch_size" else ""
            raise ValueError(f"{name}: expected a whole number of at least 1{also}, got {size!r}")
    if stock.get("max_length") is not None:
        require_int("max_length", stock["max_length"], 1)


def require_loading(stock: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `ValueError` for an argument about loading that would fail late, or be ignored.

    Args:
        stock: stock `hf`'s arguments of one model.
        prefix: `teacher_` for those of a teacher, for messages.
    """
    require_dtype(f"{prefix}dtype", stock.get("dtype"))
    require_device(f"{prefix}device", stock.get("device"))
    require_quantization(stock, prefix)
    for name in ("device_map", "max_memory_per_gpu", "max_cpu_memory"):
        if stock.get(name) is not None and not stock.get("parallelize"):
            raise ValueError(
                f"{prefix}{name}: the model is only spread over devices with {prefix}parallelize=True, got "
                f"{stock[name]!r} without it; add it, or leave {prefix}{name} out"
            )


def require_context(role: str, max_length: int | None, config: Any) -> None:
    """Raise `ValueError` for a `max_length` above the number of positions of a model."""
    limit = context_of(config)
    if max_length is not None and limit is not None and max_length > limit:
        raise ValueError(
            f"max_length: expected at most the {role}'s context of {limit} tokens, got {max_length}"
        )


def context_of(config: Any) -> int | None:
    """Number of positions of a model, scaled ones included; None where its config has no limit."""
    text = config.get_text_config(decoder=True)
    positions = getattr(text, "max_position_embeddings", None)
    if positions is None:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    factor = rope.get("factor") if isinstance(rope, dict) else None
    original = rope.get("original_max_position_embeddings") or positions if factor else positions
    return max(int(positions), int(original * factor)) if factor else int(positions)


def _is_harness_default(device: object, arguments: Mapping[str, Any]) -> bool:
    """Whether the device is the default that lm_eval's command passes without `--device`, and is not usable.

    The default is a GPU even where there is none, and where `--model_args` names another device.
    """
    is_default = device == HARNESS_DEVICE and not any(text.startswith("--dev") for text in sys.argv[1:])
    return is_default and ("device" in arguments or device not in devices())


def flags_without_arguments(arguments: Mapping[str, Any], flags: Mapping[str, Any] | None) -> dict[str, Any]:
    """The harness's flags that `--model_args` does not repeat; passing both would be a TypeError.

    Raises:
        ValueError: a flag and an argument with different values.
    """
    kept = {}
    for name, value in (flags or {}).items():
        if value is None or (name == "device" and _is_harness_default(value, arguments)):
            continue
        if name not in arguments:
            kept[name] = value
        elif str(arguments[name]) != str(value) and not (name == "batch_size" and value == 1):  # its default
            raise ValueError(
                f"{name}: --{name} {value} and {name}={arguments[name]} of --model_args differ; give one"
            )
    return kept
