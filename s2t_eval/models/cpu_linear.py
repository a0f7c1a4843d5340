"""Matrix products of few rows on a CPU, in a form with an efficient kernel in MKL.

`F.linear` of a few float32 rows reads the weights several times over; the same product written as (W x^T)^T
reads them once. Without AVX-512 four rows then take as long as one, and a number of rows that the kernel's
blocks do not divide takes longer than the next one that they do. LOG.md has the figures. Remove when torch's
own linear is as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

HAS_AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")

ROWS = range(7, 49) if HAS_AVX512 else range(2, 129)
"""Numbers of rows for which the transposed form is faster."""

MIN_OUT_FEATURES = 512
"""With fewer outputs the plain form is faster."""


def worthwhile(model: nn.Module) -> list[nn.Linear]:
    """The plain float32 linears of a model on a CPU for which the transposed form is faster."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and "forward" not in vars(module)  # hooks of accelerate, which bring offloaded weights
        and not is_traceable_wrapper_subclass(module.weight)  # quantized weights
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and module.out_features >= MIN_OUT_FEATURES
    ]


@contextmanager
def transposed(linears: Sequence[nn.Linear], rows: int) -> Iterator[None]:
    """Use the transposed form in these linears for a forward of `rows` packed tokens."""
    chosen = linears if rows in ROWS else ()
    for linear in chosen:
        linear.forward = partial(transposed_linear, linear)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for linear in chosen:
            del linear.forward


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
