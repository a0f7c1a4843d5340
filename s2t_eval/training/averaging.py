"""The average of a run's last parameters, which often generalises better than the last ones alone.

The update of a LoRA layer is the product B A of its two matrices, and the average of products is not the
product of averages. So for such a pair the products are averaged, and the nearest product of the same rank
is returned. Every other parameter is averaged value by value.

peft's `add_weighted_adapter` offers both (`svd`, `linear`), but needs all adapters in the model at once and
decomposes the full [out, in] matrix of every layer; here the factors alone are decomposed, which takes
milliseconds for each layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FIRST, SECOND = ".lora_A.", ".lora_B."
"""Parts of the names of a LoRA layer's two matrices."""


class Average(NamedTuple):
    """Averaged parameters.

    Args:
        parameters: name -> value.
        kept: the smallest share, over all LoRA layers, of the averaged product's squared norm that the rank
            keeps; 1 without LoRA layers.
    """

    parameters: dict[str, Tensor]
    kept: float


def average_parameters(snapshots: Sequence[Mapping[str, Tensor]]) -> Average:
    """The average of the same parameters at several steps of one run.

    Args:
        snapshots: at least one, with equal names and shapes.
    """
    averaged: dict[str, Tensor] = {}
    kept = 1.0
    for name, value in snapshots[0].items():
        partner = name.replace(FIRST, SECOND)
        if FIRST in name and partner in snapshots[0]:
            pairs = [(snapshot[name], snapshot[partner]) for snapshot in snapshots]
            averaged[name], averaged[partner], share = average_products(pairs)
            kept = min(kept, share)
        elif name not in averaged and not (SECOND in name and name.replace(SECOND, FIRST) in snapshots[0]):
            averaged[name] = (
                torch.stack([snapshot[name].double() for snapshot in snapshots]).mean(0).to(value)
            )
    return Average(averaged, kept)


def average_products(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, float]:
    """The pair (A, B) of the same rank whose product B A is nearest to the average of the products.

    Args:
        pairs: (A [rank, in], B [out, rank]) of the same layer at several steps.

    Returns:
        A, B, and the share of the average's squared norm that the rank keeps.
    """
    first, second = pairs[0]
    rank = len(first)
    left = torch.cat([b.double() for _, b in pairs], dim=1) / len(pairs)
    right = torch.cat([a.double() for a, _ in pairs], dim=0)
    left_basis, left_factor = torch.linalg.qr(left)
    right_basis, right_factor = torch.linalg.qr(right.T)
    u, values, vh = torch.linalg.svd(left_factor @ right_factor.T, full_matrices=False)
    norm = values.square().sum()
    kept = float(values[:rank].square().sum() / norm) if norm > 0 else 1.0
    roots = values[:rank].sqrt()
    new_second = second.new_zeros(second.shape, dtype=torch.double)
    new_first = first.new_zeros(first.shape, dtype=torch.double)
    # A layer narrower than the rank has fewer singular values; the other rows and columns stay zero.
    new_second[:, : len(roots)] = left_basis @ (u[:, :rank] * roots)
    new_first[: len(roots)] = roots[:, None] * (vh[:rank] @ right_basis.T)
    return new_first.to(first), new_second.to(second), kept
