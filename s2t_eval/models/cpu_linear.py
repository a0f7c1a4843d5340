"""Matrix products of few rows on a CPU, in the form that MKL has a good kernel for.

`F.linear` of 7 to 48 float32 rows reads the weights several times over; the same product written as
(W x^T)^T reads them once. LOG.md has the figures. Remove when torch's own linear is as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

ROWS = range(7, 49)
"""Numbers of rows at which the other form is faster."""

MIN_OUT_FEATURES = 512
"""Below this many outputs the plain form is faster."""


def worthwhile(model: nn.Module) -> list[nn.Linear]:
    """The plain float32 linears of a model on a CPU that gain from the other form."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and module.out_features >= MIN_OUT_FEATURES
    ]


@contextmanager
def transposed(linears: Sequence[nn.Linear], rows: int) -> Iterator[None]:
    """Let these linears multiply the other way round while `rows` packed tokens go through them."""
    chosen = linears if rows in ROWS else ()
    for linear in chosen:
        linear.forward = partial(transposed_linear, linear)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for linear in chosen:
            del linear.forward


def transposed_linear(linear: nn.Linear, states: Tensor) -> Tensor:
    """What `linear` gives for states [..., in_features], up to rounding."""
    product = torch.mm(linear.weight, states.flatten(0, -2).T).T.contiguous()
    if linear.bias is not None:
        product += linear.bias
    return product.view(*states.shape[:-1], -1)
