"""Which models the engine can decode."""

from __future__ import annotations

from typing import Any

KNOWN_LAYERS = {"full_attention", "sliding_attention"}


class UnsupportedModelError(ValueError):
    """The engine does not support the model; the message names the unsupported part."""


def check_supported(config: Any, name: str) -> None:
    """Raise `UnsupportedModelError` for recurrent, hybrid, chunked or cache-sharing layers."""
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    recurrent = [key for key in ("ssm_cfg", "state_size", "mamba_d_state") if hasattr(config, key)]
    shared = getattr(config, "num_kv_shared_layers", 0) or 0
    if layers - KNOWN_LAYERS or recurrent or shared:
        unsupported = sorted(layers - KNOWN_LAYERS) or recurrent or [f"num_kv_shared_layers={shared}"]
        raise UnsupportedModelError(
            f"{name}: {config.model_type} has {', '.join(map(str, unsupported))}; the slot engine decodes "
            "models whose layers are all full_attention or sliding_attention; use --model hf for it"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name}: {config.model_type} is an encoder-decoder model; expected a decoder-only one"
        )
