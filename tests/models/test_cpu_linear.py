"""Products of few rows the other way round are the same products, and models are left as they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner
from s2t_eval.models import cpu_linear
from s2t_eval.models.cpu_linear import (
    PACKED_ROWS,
    ROWS,
    fast_products,
    pack,
    packed_linear,
    transposed_linear,
    worthwhile,
)
from s2t_eval.selection.policy import greedy
from tests.twins import decode, generate_greedy, outputs, requests


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
        with fast_products(chosen, rows, {}):
            assert ("forward" in vars(layers[0])) == is_turned
        assert "forward" not in vars(layers[0])
    with pytest.raises(RuntimeError), fast_products(chosen, 9, {}):
        raise RuntimeError
    assert "forward" not in vars(layers[0])


needs_packing = pytest.mark.skipif(not cpu_linear.HAS_PACKING, reason="this torch has no oneDNN")


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 40), (1, 9, 40), (32, 40), (50, 40)])
def test_a_packed_layer_is_the_same_product(
    shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_linear, "ROWS", range(2, PACKED_ROWS.stop + 1))  # it differs between processors
    linear = nn.Linear(40, 700, bias=bias)
    states = torch.randn(shape)
    [packed] = pack([linear]).values()
    torch.testing.assert_close(packed_linear(linear, packed, states), linear(states), atol=1e-5, rtol=1e-5)
    for rows in (PACKED_ROWS.start, PACKED_ROWS.stop - 1):
        with fast_products([linear], rows, {linear: packed}):
            assert vars(linear)["forward"].func is packed_linear
    with fast_products([linear], PACKED_ROWS.stop, {linear: packed}):
        assert vars(linear)["forward"].func is transposed_linear


@needs_packing
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_a_packed_layer_in_bfloat16_is_as_exact_as_the_plain_one(rows: int) -> None:
    """Both sum in float32 and round once; the order of the sum may differ."""
    linear = nn.Linear(256, 700).bfloat16()
    states = torch.randn(rows, 256).bfloat16()
    exact = nn.functional.linear(states.double(), linear.weight.double(), linear.bias.double())
    [packed] = pack([linear]).values()
    error, own = (
        (y.double() - exact).abs().max() for y in (packed_linear(linear, packed, states), linear(states))
    )
    assert error <= own + 2**-8 * exact.abs().max()


def test_a_layer_in_bfloat16_is_packed_where_the_processor_multiplies_it_and_never_turned() -> None:
    """At batch 1 a bfloat16 product took twice as long as one of packed weights: they were float32 only."""
    linear = nn.Linear(8, 600).bfloat16()
    assert worthwhile(linear) == ([linear] if cpu_linear.HAS_PACKING and cpu_linear.HAS_BFLOAT16 else [])
    for rows in (1, ROWS.start, ROWS.stop - 1):
        with fast_products([linear], rows, {}):
            assert "forward" not in vars(linear)


@needs_packing
def test_weights_that_changed_are_packed_again() -> None:
    """A merge adds to `.data`, which torch does not count as a change; runners share a copy until then."""
    linear = nn.Linear(40, 700)
    first = pack([linear])[linear]
    assert pack([linear])[linear] is first
    linear.weight.data += 0.5
    second = pack([linear])[linear]
    states = torch.randn(3, 40)
    torch.testing.assert_close(packed_linear(linear, second, states), linear(states), atol=1e-5, rtol=1e-5)


def test_without_memory_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_linear, "MEMORY_SHARE", 0.0)
    assert pack([nn.Linear(8, 600)]) == {}


@needs_packing
def test_a_merged_adapter_decodes_with_its_weights(
    student: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner has packed the plain weights before they change under it."""
    monkeypatch.setattr(cpu_linear, "MIN_OUT_FEATURES", {torch.float32: 1, torch.bfloat16: 1})
    model = copy.deepcopy(student)
    decoder = Decoder(ModelRunner(model), greedy(), rows=4)
    list(decoder.run(requests(4)))
    torch.manual_seed(0)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data += 0.2 * torch.randn(layer.mlp.down_proj.weight.shape)
    results = {result.index: result.output_ids for result in decoder.run(requests(4))}
    assert results == {i: generate_greedy(model, request) for i, request in enumerate(requests(4))}


def test_texts_are_the_same_either_way(student: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outputs(decode(student, greedy(), requests(), rows=8))
    monkeypatch.setattr(cpu_linear, "MIN_OUT_FEATURES", {torch.float32: 1, torch.bfloat16: 1})
    assert worthwhile(ModelRunner(student).body)
    assert outputs(decode(student, greedy(), requests(), rows=8)) == expected
    monkeypatch.setattr(cpu_linear, "HAS_PACKING", False)
    assert outputs(decode(student, greedy(), requests(), rows=8)) == expected
