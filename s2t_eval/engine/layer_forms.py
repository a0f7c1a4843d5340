"""Layers of Llama's form with fewer kernels than transformers' own, and the same numbers.

Queries and keys are rotated together and in place, keys and values are written into the cache at once, and
where every row has one query nothing is copied before the product. On a GPU a norm is one kernel. Models of
other forms keep their own layers, which reach the cache through transformers' attention interface
(`attention.py`); every model's logits are compared with transformers' own before it decodes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RMSNorm

from s2t_eval.engine.attention import Pass, Rotation, attend_joined
from s2t_eval.models.replaced_forwards import forwards_replaced

ROTARY = (LlamaAttention, Qwen2Attention, Qwen3Attention)
"""Projections, in Qwen 3 norms of the heads, rotation of whole heads, attention, projection."""
NORMS = (LlamaRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)

Forms = list[tuple[Any, Callable[..., Any]]]
"""Layers, each with the function that computes it."""


def has_known_layers(layers: nn.ModuleList) -> bool:
    """Whether each decoder layer attends in one of the forms of this module."""
    return all(any(type(module) in ROTARY for module in layer.modules()) for layer in layers)


def forms_of(model: nn.Module, fused_norms: bool) -> Forms:
    """The layers of a model that this module computes, each with its function.

    Args:
        model: a model of transformers.
        fused_norms: also compute norms here. On a GPU this takes one kernel, elsewhere more than one.
    """
    forms: Forms = []
    for module in model.modules():
        if "forward" in vars(module):
            continue  # a hook of accelerate replaced it, which loads offloaded weights
        if type(module) in ROTARY:
            forms.append((module, rotary_attention))
        elif fused_norms and type(module) in NORMS:
            forms.append((module, rms_norm))
    return forms


def forms_enabled(forms: Forms) -> AbstractContextManager[None]:
    """Compute these layers by their functions; their own forward is restored afterwards.

    A layer whose forward is replaced already, because the pass leaves it out, stays replaced.
    """
    return forwards_replaced(
        [(layer, partial(function, layer)) for layer, function in forms if "forward" not in vars(layer)]
    )


def rotary_attention(
    layer: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    *,
    slots: Pass,
    **unused: Any,
) -> tuple[Tensor, None]:
    """The forward of an attention layer for packed tokens [1, tokens, hidden].

    Args:
        layer: the layer, whose weights are used.
        hidden_states: its input.
        position_embeddings: cosines and sines of the tokens' positions, [1, tokens, head_dim] each.
        slots: what is written where, and what each token attends to.
        unused: further arguments of transformers.
    """
    tokens, dim = hidden_states.shape[1], layer.head_dim
    query, key, value = (project(hidden_states)[0] for project in (layer.q_proj, layer.k_proj, layer.v_proj))
    heads, kv_heads = query.shape[-1] // dim, key.shape[-1] // dim
    if type(layer) is Qwen3Attention:
        query = layer.q_norm(query.view(tokens, heads, dim)).flatten(1)
        key = layer.k_norm(key.view(tokens, kv_heads, dim)).flatten(1)
    states = torch.cat((query, key, value), dim=-1).view(tokens, -1, dim)
    rotate(states[:, : heads + kv_heads], slots.rotation(position_embeddings))
    return layer.o_proj(attend_joined(layer, states, kv_heads, slots).flatten(1)[None]), None


def rotate(states: Tensor, rotation: Rotation) -> None:
    """Rotate heads [tokens, heads, head_dim] in place by their tokens' angles.

    These are the products and sums of transformers' `apply_rotary_pos_emb`; the sign of the exchanged halves
    is in the sines.
    """
    exchanged = states.roll(states.shape[-1] // 2, dims=-1)
    states.mul_(rotation.cos).add_(exchanged.mul_(rotation.signed_sin))


def rms_norm(norm: Any, hidden_states: Tensor) -> Tensor:
    """The forward of a norm: in float32, rounded before the weight is applied, as transformers does it."""
    size, dtype = (hidden_states.shape[-1],), hidden_states.dtype
    if dtype == torch.float32:
        return nn.functional.rms_norm(hidden_states, size, norm.weight, norm.variance_epsilon)
    normed = nn.functional.rms_norm(hidden_states.float(), size, None, norm.variance_epsilon)
    scaled: Tensor = norm.weight * normed.to(dtype)
    return scaled
