"""Which models the engine can decode."""

from __future__ import annotations

from typing import Any

from s2t_eval.models.layer_masks import FULL, SLIDING, layer_kinds

KNOWN_LAYERS = {FULL, SLIDING}


class UnsupportedModelError(ValueError):
    """The engine does not support the model; the message names the unsupported part."""


def check_supported(config: Any, name: str, is_stateful: bool = False) -> None:
    """Raise `UnsupportedModelError` for recurrent, hybrid, chunked or cache-sharing layers.

    Args:
        config: of the text model.
        name: the model's name in messages.
        is_stateful: whether transformers says of the model that it has a state beside keys and values.
    """
    layers = layer_kinds(config)
    recurrent = [key for key in ("ssm_cfg", "state_size", "mamba_d_state") if hasattr(config, key)]
    if is_stateful and not recurrent:
        recurrent = ["a recurrent state"]
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


def require_length(config: Any, name: str, length: int, extra_slots: int) -> None:
    """Raise `UnsupportedModelError` for texts whose length decides how other texts of a pass are rotated.

    With some forms of RoPE transformers chooses the frequencies of a pass by its largest position. A pass of
    the engine holds the tokens of all rows, so beyond the original context one long text would change the
    rotation of every shorter one, and with it texts, without any error.

    Args:
        config: of the text model.
        name: the model's name in messages.
        length: tokens of the longest text.
        extra_slots: slots behind it in its row.
    """
    for rope_type, context in _ropes_of_the_longest(config):
        if length + extra_slots <= context:
            continue
        room = context - extra_slots
        shorter = f"give max_length={room} or less, or " if room > 0 else ""
        raise UnsupportedModelError(
            f"{name}: beyond its original context of {context} tokens its RoPE ({rope_type}) depends on the "
            f"longest text of a pass, which the slot engine does not support; got texts of up to {length} "
            f"tokens and {extra_slots} further slots; {shorter}use --model hf for it"
        )


def has_dynamic_rope(config: Any) -> bool:
    """Whether the host reads positions from the device in each pass, to choose the rotation's frequencies."""
    return any("dynamic" in rope_type for rope_type, _ in _ropes_of_the_longest(config))


def _ropes_of_the_longest(config: Any) -> list[tuple[str, int]]:
    """Type and original context of each RoPE of a model whose frequencies depend on the longest text."""
    parameters = getattr(config, "rope_parameters", None) or {}
    by_layer_type = [value for value in parameters.values() if isinstance(value, dict)]
    ropes = []
    for rope in by_layer_type or [parameters]:
        rope_type = str(rope.get("rope_type", "default"))
        if rope_type == "longrope":
            ropes.append((rope_type, int(rope["original_max_position_embeddings"])))
        elif "dynamic" in rope_type:  # the frequencies change at the model's own number of positions
            ropes.append((rope_type, int(config.max_position_embeddings)))
    return ropes
