"""The most likely tokens in order, against a stable sort of everything."""

from __future__ import annotations

import math

import pytest
import torch

from s2t_eval.selection.step import sums
from s2t_eval.selection.top_tokens import top_tokens, top_values


@pytest.mark.parametrize("vocab", [1, 63, 64, 200, 1000, 151_665])
@pytest.mark.parametrize("k", [1, 8, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_beginning_of_a_stable_sort(vocab: int, k: int, dtype: torch.dtype) -> None:
    """Bfloat16 ties often: the smaller id comes first. The head's padding is cut off, so rows are strided."""
    torch.manual_seed(vocab + k)
    logits = (3 * torch.randn(3, vocab + 5)).to(dtype).float()[:, :vocab]
    expected = logits.sort(dim=-1, descending=True, stable=True)
    found = top_tokens(logits, k)
    assert torch.equal(found.values, expected.values[:, :k])
    assert torch.equal(found.indices, expected.indices[:, :k])


def test_ties_are_broken_over_blocks_too() -> None:
    """More blocks share the largest value than tokens are asked for."""
    logits = torch.zeros(2, 1000)
    logits[1, 500:] = 1.0
    found = top_tokens(logits, 3)
    assert found.indices.tolist() == [[0, 1, 2], [500, 501, 502]]


@pytest.mark.parametrize("vocab", [3, 1000])
def test_zeros_of_either_sign_are_equal(vocab: int) -> None:
    """Their bits differ: the first candidate was another token than greedy's."""
    logits = torch.full((1, vocab), -1.0)
    logits[0, -3:] = torch.tensor([-0.0, 0.0, -0.0])
    assert top_tokens(logits, 3).indices.tolist() == [[vocab - 3, vocab - 2, vocab - 1]]
    assert int(logits.argmax()) == vocab - 3


def test_masked_tokens_come_last_and_a_nan_first() -> None:
    """A NaN of either sign must reach whoever checks the largest value."""
    logits = torch.full((2, 700), -math.inf)
    logits[0, 650] = -5.0
    logits[1, 300] = -torch.tensor(math.nan)
    found = top_tokens(logits, 2)
    assert found.indices[0].tolist() == [650, 0]
    assert math.isnan(found.values[1, 0]) and found.indices[1, 0] == 300
    assert top_tokens(logits[:0], 2).indices.shape == (0, 2)


def test_sums_are_those_of_the_softmax() -> None:
    """Enough rows for several parts, one with masked tokens: log-probabilities and entropy agree."""
    torch.manual_seed(0)
    logits = 30 + 5 * torch.randn(9, 151_936)
    logits[4, ::2] = -math.inf
    found = sums(logits)
    log_probs = logits.double().log_softmax(-1)
    log_total = logits.double().logsumexp(-1)
    entropy = -torch.where(log_probs > -math.inf, log_probs.exp() * log_probs, 0.0).sum(-1)
    torch.testing.assert_close((found.total.log() + found.largest).double(), log_total)
    ours = (found.total.log() - found.weighted / found.total).double()
    torch.testing.assert_close(ours, entropy, atol=1e-4, rtol=0)


@pytest.mark.parametrize("vocab", [50, 500, 20_001])
@pytest.mark.parametrize("k", [1, 7, 100])
def test_top_values_are_those_of_a_sort(vocab: int, k: int) -> None:
    """With equal logits in several blocks, as bfloat16 gives them, and a part of a block at the end."""
    logits = torch.randn(3, vocab, generator=torch.Generator().manual_seed(vocab)).bfloat16().float()
    assert torch.equal(top_values(logits, k), logits.sort(-1, descending=True).values[:, :k])
