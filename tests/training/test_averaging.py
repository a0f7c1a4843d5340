"""The average of a run's last parameters: of LoRA's products, and of every other parameter's values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s2t_eval.training.averaging import average_parameters, average_products
from s2t_eval.training.settings import LoopSettings

PAIR = ("layer.lora_A.default.weight", "layer.lora_B.default.weight")


def snapshots(count: int, rank: int = 3, width: int = 7, height: int = 5) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    shapes = {PAIR[0]: (rank, width), PAIR[1]: (height, rank), "readout": (2, width)}
    return [
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def product(parameters: dict[str, Tensor]) -> Tensor:
    return parameters[PAIR[1]] @ parameters[PAIR[0]]


def test_the_average_of_lora_layers_is_that_of_their_products() -> None:
    """Averaging the matrices themselves gives another update, as the last line shows."""
    taken = snapshots(3)
    average = average_parameters(taken)
    mean = torch.stack([product(one) for one in taken]).mean(0)
    u, values, vh = torch.linalg.svd(mean)  # the slow twin: the nearest matrix of rank 3
    nearest = u[:, :3] * values[:3] @ vh[:3]
    torch.testing.assert_close(product(average.parameters), nearest, atol=1e-5, rtol=1e-5)
    assert average.kept == pytest.approx(float(values[:3].square().sum() / values.square().sum()))
    torch.testing.assert_close(
        average.parameters["readout"], torch.stack([s["readout"] for s in taken]).mean(0)
    )
    assert {name: value.shape for name, value in average.parameters.items()} == {
        name: value.shape for name, value in taken[0].items()
    }
    matrices = {name: torch.stack([one[name] for one in taken]).mean(0) for name in PAIR}
    assert float((product(matrices) - nearest).norm()) > 0.5 * float(nearest.norm())


def test_one_update_written_in_two_ways_is_its_own_average() -> None:
    """B A = (-B)(-A): the average of the matrices would be zero."""
    [one] = snapshots(1)
    other = {**one, PAIR[0]: -one[PAIR[0]], PAIR[1]: -one[PAIR[1]]}
    average = average_parameters([one, other])
    torch.testing.assert_close(product(average.parameters), product(one), atol=1e-5, rtol=1e-5)
    assert average.kept == pytest.approx(1)


def test_of_several_layers_the_smallest_share_is_reported() -> None:
    """A later layer of which the rank keeps everything does not hide one of which it loses a part."""
    taken = snapshots(3)
    same = {f"later.{name}": taken[0][name] for name in PAIR}  # one update at every step
    average = average_parameters([{**one, **same} for one in taken])
    assert average.kept == average_parameters(taken).kept < 0.99


def test_layers_narrower_than_the_rank_and_updates_of_zero() -> None:
    narrow = snapshots(2, rank=6, height=2)
    first, second, kept = average_products([(one[PAIR[0]], one[PAIR[1]]) for one in narrow])
    mean = torch.stack([product(one) for one in narrow]).mean(0)
    torch.testing.assert_close(second @ first, mean, atol=1e-5, rtol=1e-5)
    assert kept == pytest.approx(1) and first.shape == (6, 7)
    zero = {PAIR[0]: torch.randn(3, 7), PAIR[1]: torch.zeros(5, 3)}  # LoRA before its first step
    average = average_parameters([zero, zero])
    assert not product(average.parameters).any() and average.kept == 1


def test_snapshots_are_spread_evenly_over_the_end() -> None:
    assert LoopSettings(average_last=0.3, snapshots=3).snapshot_steps(100) == [80, 90, 100]
    assert LoopSettings(average_last=1, snapshots=4).snapshot_steps(8) == [2, 4, 6, 8]
    assert LoopSettings(average_last=0.5, snapshots=4).snapshot_steps(4) == [3, 4]  # not so many steps
    assert LoopSettings(average_last=0.3, snapshots=3).snapshot_steps(10) == [8, 9, 10]
    assert LoopSettings().snapshot_steps(100) == []
