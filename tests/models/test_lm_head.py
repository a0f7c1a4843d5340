"""The one output head: its logits are the model's own, soft cap included, and may be differentiated."""

from __future__ import annotations

import pytest
import torch

from s2t_eval.models.lm_head import LMHead
from tests.twins import tiny_model

TEXT_VOCAB = 90
IDS = torch.tensor([[3, 1, 4, 1, 5]])


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma3", "gemma2"])
def test_logits_are_those_of_the_whole_model(family: str) -> None:
    """Gemma 2 caps its logits; training once had a cap of its own beside the engine's."""
    model = tiny_model(family, seed=0)
    lm_head = LMHead(model, TEXT_VOCAB)
    hidden = model.get_decoder()(input_ids=IDS).last_hidden_state[0]
    expected = model(input_ids=IDS).logits[0].float()
    assert torch.equal(lm_head.logits(hidden), expected[:, :TEXT_VOCAB])
    chosen = torch.tensor([[7], [0], [TEXT_VOCAB - 1], [7], [2]])
    assert torch.allclose(lm_head.logits_at(hidden, chosen), expected.gather(-1, chosen), atol=1e-5)
    assert (lm_head.vocab, lm_head.width) == (expected.shape[-1], hidden.shape[-1])


def test_chosen_rows_have_the_gradient_of_the_whole_head() -> None:
    model = tiny_model("gemma2", seed=0)
    lm_head = LMHead(model)
    chosen = torch.tensor([[7, 0], [5, 2]])
    gradients = []
    for rows in (lambda h: lm_head.logits_at(h, chosen), lambda h: lm_head.logits(h).gather(-1, chosen)):
        hidden = torch.linspace(-1, 1, 2 * lm_head.width).view(2, -1).requires_grad_(True)
        rows(hidden).square().sum().backward()
        gradients.append(hidden.grad)
    assert torch.allclose(*gradients, atol=1e-6)
