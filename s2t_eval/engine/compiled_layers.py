"""Decoder layers of Llama's form as two compiled regions, with attention over the cache between them.

What lies before attention (norm, projections, rotation) and behind it (projection, sums, norm, MLP) has no
state and one shape a number of tokens, so that `torch.compile` fuses everything but the products. All layers
of a model share these two graphs, and so do all numbers of tokens but one. Attention and the cache stay as
they are, since their shapes change with every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from s2t_eval.engine.attention import Pass, Rotation, attend_joined
from s2t_eval.engine.layer_forms import Forms, rms_norm, rotate

Compile = Literal["never", "auto", "always"]
"""Whether layers are compiled ("always"), and decode steps replayed on a GPU ("auto" and "always")."""

LAYERS = (LlamaDecoderLayer, Qwen2DecoderLayer, Qwen3DecoderLayer)
BACKEND = "inductor"
"""Of `torch.compile`. On a CPU it needs a C++ compiler."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Projection(NamedTuple):
    """Weight and bias of a linear layer."""

    weight: Tensor
    """[outputs, inputs]"""
    bias: Tensor | None
    """[outputs]"""


class Norm(NamedTuple):
    """Weight of an RMS norm, and what is added to the mean square."""

    weight: Tensor
    variance_epsilon: float


def compiled_forms(model: nn.Module) -> Forms:
    """The decoder layers of a model that this module computes, each with its function."""
    return [(layer, compiled_layer) for layer in model.modules() if can_compile(layer)]


def can_compile(layer: Any) -> bool:
    """Whether a decoder layer has a known form and plain weights: no adapter, quantization or offloading."""
    if type(layer) not in LAYERS:
        return False
    own, mlp = layer.self_attn, layer.mlp
    linears = (own.q_proj, own.k_proj, own.v_proj, own.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return (
        all(type(part) is nn.Linear and not is_traceable_wrapper_subclass(part.weight) for part in linears)
        and not any("forward" in vars(part) for part in layer.modules())
        and mlp.config.hidden_act == "silu"
    )


def compiled_layer(
    layer: Any,
    hidden_states: Tensor,
    *,
    position_embeddings: tuple[Tensor, Tensor],
    slots: Pass,
    **unused: Any,
) -> Tensor:
    """The forward of a decoder layer for packed tokens [1, tokens, hidden].

    Args:
        layer: the layer, whose weights are used.
        hidden_states: its input.
        position_embeddings: cosines and sines of the tokens' positions, [1, tokens, head_dim] each.
        slots: what is written where, and what each token attends to.
        unused: further arguments of transformers.
    """
    own = layer.self_attn
    hidden = hidden_states[0]
    projections = tuple(_projection(part) for part in (own.q_proj, own.k_proj, own.v_proj))
    head_norms = (_norm(own.q_norm), _norm(own.k_norm)) if type(layer) is Qwen3DecoderLayer else None
    states = compiled(heads_of)(
        hidden,
        _norm(layer.input_layernorm),
        projections,
        head_norms,
        slots.rotation(position_embeddings),
        own.head_dim,
    )
    attended = attend_joined(own, states, own.k_proj.out_features // own.head_dim, slots)
    mlp = layer.mlp
    output: Tensor = compiled(behind_attention)(
        hidden,
        attended.flatten(1),
        _projection(own.o_proj),
        _norm(layer.post_attention_layernorm),
        tuple(_projection(part) for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
    )
    return output[None]


@cache
def compiled(function: Function) -> Function:
    """A function compiled for any number of tokens."""
    made: Any = torch.compile(function, dynamic=True, fullgraph=True, backend=BACKEND)
    return cast(Function, made)


def heads_of(
    hidden: Tensor,
    norm: Norm,
    projections: tuple[Projection, Projection, Projection],
    head_norms: tuple[Norm, Norm] | None,
    rotation: Rotation,
    dim: int,
) -> Tensor:
    """Queries, keys and values of tokens, queries and keys rotated: [tokens, heads, head_dim].

    Args:
        hidden: [tokens, hidden].
        norm: in front of the projections.
        projections: of queries, keys and values.
        head_norms: of the heads of queries and of keys, which Qwen 3 has.
        rotation: the tokens' angles.
        dim: of a head.
    """
    normed = rms_norm(norm, hidden)
    query, key, value = (linear(normed, *part).unflatten(1, (-1, dim)) for part in projections)
    if head_norms is not None:
        query, key = (rms_norm(own, part) for own, part in zip(head_norms, (query, key), strict=True))
    states = torch.cat((query, key, value), dim=1)
    rotate(states[:, : -value.shape[1]], rotation)
    return states


def behind_attention(
    hidden: Tensor,
    attended: Tensor,
    projection: Projection,
    norm: Norm,
    mlp: tuple[Projection, Projection, Projection],
) -> Tensor:
    """The output of a layer from what its attention gives, [tokens, hidden].

    Args:
        hidden: the layer's input, [tokens, hidden].
        attended: the heads' outputs side by side, [tokens, heads * head_dim].
        projection: of these outputs.
        norm: in front of the MLP.
        mlp: gate, up and down projection.
    """
    residual = hidden + linear(attended, *projection)
    normed = rms_norm(norm, residual)
    gate, up, down = mlp
    return residual + linear(silu(linear(normed, *gate)) * linear(normed, *up), *down)


def _projection(layer: nn.Linear) -> Projection:
    return Projection(layer.weight, layer.bias)


def _norm(norm: Any) -> Norm:
    return Norm(norm.weight, norm.variance_epsilon)
