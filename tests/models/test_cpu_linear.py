"""Products of few rows the other way round are the same products, and models are left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner
from s2t_eval.models import cpu_linear
from s2t_eval.models.cpu_linear import ROWS, transposed, transposed_linear, worthwhile
from s2t_eval.selection.policy import greedy
from tests.twins import decode, outputs, requests


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(9, 40), (1, 9, 40), (1, 40), (3, 40), (7, 40), (16, 40), (50, 40)])
def test_the_other_form_is_the_same_product(shape: tuple[int, ...], bias: bool) -> None:
    linear = nn.Linear(40, 700, bias=bias)
    states = torch.randn(shape)
    torch.testing.assert_close(transposed_linear(linear, states), linear(states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("has_avx512", [True, False])
def test_rows_are_padded_to_what_the_kernel_takes_at_once(
    has_avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_linear, "HAS_AVX512", has_avx512)
    padded = [cpu_linear.padded_rows(rows) for rows in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 48)]
    assert padded == (
        [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 48] if has_avx512 else [1, 2, 4, 4, 5, 8, 8, 16, 16, 32, 48]
    )
    linear, states = nn.Linear(40, 700), torch.randn(13, 40)
    torch.testing.assert_close(transposed_linear(linear, states), linear(states), atol=1e-5, rtol=1e-5)


def test_only_few_rows_are_turned_and_the_model_is_left_alone() -> None:
    layers = nn.Sequential(nn.Linear(8, 600), nn.ReLU(), nn.Linear(600, 8), nn.Linear(8, 600).double())
    chosen = worthwhile(layers)
    assert chosen == [layers[0]]  # large, float32
    for rows, is_turned in ((1, False), (ROWS.start, True), (ROWS.stop - 1, True), (ROWS.stop, False)):
        with transposed(chosen, rows):
            assert ("forward" in vars(layers[0])) == is_turned
        assert "forward" not in vars(layers[0])
    with pytest.raises(RuntimeError), transposed(chosen, 9):
        raise RuntimeError
    assert "forward" not in vars(layers[0])


def test_texts_are_the_same_either_way(student: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outputs(decode(student, greedy(), requests(), rows=8))
    monkeypatch.setattr(cpu_linear, "MIN_OUT_FEATURES", 1)
    assert worthwhile(ModelRunner(student).body)
    assert outputs(decode(student, greedy(), requests(), rows=8)) == expected
