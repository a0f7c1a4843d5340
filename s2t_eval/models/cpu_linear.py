"""Matrix products of few rows on a CPU, in forms with an efficient kernel.

`F.linear` of a few float32 rows reads the weights several times over, and of bfloat16 rows it brings the
weights into oneDNN's order at every call. A copy of them in that order is read once, with all cores at any
number of rows. Where there is no memory for such a copy, a float32 product is written as (W x^T)^T, which
also reads the weights once: without AVX-512 four rows then take as long as one, and a number of rows that the
kernel's blocks do not divide takes longer than the next one that they do. LOG.md has the figures. Remove when
torch's own linear is as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from s2t_eval.models.replaced_forwards import forwards_replaced

HAS_PACKING = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)
"""Whether torch has the operators with which its own compiler freezes a linear layer."""

HAS_BFLOAT16 = any(
    getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile")
)
"""Whether the processor multiplies bfloat16; emulated products are slow in any order of the weights."""

HAS_AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")

ROWS = range(7, 49) if HAS_AVX512 else range(2, 129)
"""Numbers of float32 rows for which the transposed form is faster."""

MIN_OUT_FEATURES = {torch.float32: 512}
"""Data type -> fewest outputs for which another form than the plain one is faster."""
if HAS_PACKING and HAS_BFLOAT16:
    MIN_OUT_FEATURES[torch.bfloat16] = 128

PACKED_ROWS = range(1, 97)
"""Numbers of rows for which a packed copy of the weights is faster."""
ROWS_OF_PACKING = 32
"""oneDNN's order of weights depends on the rows it is made for; this one serves all of `PACKED_ROWS`."""
MEMORY_SHARE = 0.5
"""Packed copies are made where they take no more than this share of the memory that is free."""
SAMPLED = 256
"""Weights of a layer by which a copy is compared with the layer it was made of."""


class Packed(NamedTuple):
    """A copy of a linear layer's weights in oneDNN's order."""

    weights: Tensor
    sample: Tensor
    """some of the layer's weights as they were"""


_packed: WeakKeyDictionary[nn.Linear, Packed] = WeakKeyDictionary()
"""Shared by all that use a layer: a student and the scorer with an adapter on it."""


def worthwhile(model: nn.Module) -> list[nn.Linear]:
    """The plain linears of a model on a CPU for which another form is faster; see `MIN_OUT_FEATURES`."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and "forward" not in vars(module)  # hooks of accelerate, which bring offloaded weights
        and not is_traceable_wrapper_subclass(module.weight)  # quantized weights
        and module.weight.device.type == "cpu"
        and module.weight.dtype in MIN_OUT_FEATURES
        and module.out_features >= MIN_OUT_FEATURES[module.weight.dtype]
    ]


def pack(linears: Sequence[nn.Linear]) -> dict[nn.Linear, Packed]:
    """Packed copies of layers that `worthwhile` returned; no new ones where there is no memory for all.

    A copy that was made before is used again, unless the layer's weights have changed since.
    """
    if not HAS_PACKING:
        return {}
    copies: dict[nn.Linear, Packed] = {}
    missing = []
    for linear in linears:
        copy = _packed.get(linear)
        if copy is not None and torch.equal(copy.sample, _sample(linear)):
            copies[linear] = copy
        else:
            _packed.pop(linear, None)
            missing.append(linear)
    if sum(linear.weight.nbytes for linear in missing) > MEMORY_SHARE * psutil.virtual_memory().available:
        return copies
    for linear in missing:
        weights = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS_OF_PACKING)
        copies[linear] = _packed[linear] = Packed(weights, _sample(linear).clone())
    return copies


def _sample(linear: nn.Linear) -> Tensor:
    """Some weights, spread over the whole layer."""
    flat = linear.weight.detach().flatten()
    return flat[:: max(1, len(flat) // SAMPLED)]


def packed_for(linear: nn.Linear, rows: int, packed: Mapping[nn.Linear, Packed]) -> Packed | None:
    """The copy of a layer with which so many rows are multiplied fastest; None if there is none."""
    return packed.get(linear) if rows in PACKED_ROWS else None


def is_transposed(linear: nn.Linear, rows: int, packed: Mapping[nn.Linear, Packed]) -> bool:
    """Whether the transposed form is the fastest one of a layer that `worthwhile` returned."""
    is_float32 = linear.weight.dtype == torch.float32
    return is_float32 and rows in ROWS and packed_for(linear, rows, packed) is None


def fast_products(
    linears: Sequence[nn.Linear], rows: int, packed: Mapping[nn.Linear, Packed]
) -> AbstractContextManager[None]:
    """Use the fastest form in these linears for a forward of `rows` packed tokens."""
    chosen: list[tuple[nn.Linear, Callable[[Tensor], Tensor]]] = []
    for linear in linears:
        copy = packed_for(linear, rows, packed)
        if copy is not None:
            chosen.append((linear, partial(packed_linear, linear, copy)))
        elif is_transposed(linear, rows, packed):
            chosen.append((linear, partial(transposed_linear, linear)))
    return forwards_replaced(chosen)


def packed_linear(linear: nn.Linear, packed: Packed, states: Tensor) -> Tensor:
    """The output of `linear` for states [..., in_features], up to rounding."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed.weights, linear.bias, "none", [], "")
    return output


def transposed_linear(linear: nn.Linear, states: Tensor) -> Tensor:
    """The output of `linear` for states [..., in_features], up to rounding."""
    product = transposed_product(linear, states.flatten(0, -2)).T.contiguous()
    return product.view(*states.shape[:-1], -1)


def transposed_product(linear: nn.Linear, states: Tensor) -> Tensor:
    """The transposed output [out_features, n] of `linear` for states [n, in_features]."""
    padding = padded_rows(len(states)) - len(states)
    padded = nn.functional.pad(states, (0, 0, 0, padding)) if padding else states
    product = torch.mm(linear.weight, padded.T)[:, : len(states)]
    if linear.bias is not None:
        product += linear.bias[:, None]
    return product


def padded_rows(rows: int) -> int:
    """The number of rows, at least `rows`, that the transposed form multiplies fastest."""
    if HAS_AVX512 or rows <= 2:
        return rows
    if rows <= 8:
        return {3: 4, 7: 8}.get(rows, rows)
    return -(-rows // 16) * 16
