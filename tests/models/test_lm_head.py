"""The one output head: its logits are the model's own, soft cap included, and may be differentiated."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from s2t_eval.models import cpu_linear
from s2t_eval.models.lm_head import LMHead, column_maxima
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


@pytest.mark.parametrize("vocab", [5, 64, 640, 1000])
def test_the_best_token_is_the_argmax_in_every_form(vocab: int) -> None:
    """Many logits are equal, within a block of tokens and across blocks: the smaller id is taken."""
    logits = torch.randint(-3, 3, (9, vocab), generator=torch.Generator().manual_seed(vocab)).float()
    values, ids = column_maxima(logits.T.contiguous())
    assert torch.equal(values, logits.max(-1).values)
    assert ids.tolist() == [row.index(max(row)) for row in logits.tolist()]


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 8])
def test_best_tokens_are_those_of_all_logits(
    family: str, dtype: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows on a CPU, where the product is transposed, low precision, and a soft cap."""
    monkeypatch.setattr(cpu_linear, "MIN_OUT_FEATURES", {torch.float32: 1, torch.bfloat16: 1})
    lm_head = LMHead(tiny_model(family, seed=0).to(dtype), TEXT_VOCAB)
    hidden = torch.randn(rows, lm_head.width, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = lm_head.fast_logits(hidden).max(-1)
    best = lm_head.best(hidden)
    assert best.values.dtype == torch.float32
    assert torch.equal(best.values, expected.values)
    assert torch.equal(best.ids, expected.indices)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("whole", [False, True], ids=["adapted", "replaced"])
@pytest.mark.parametrize("rows", [1, 8])
def test_best_tokens_of_an_adapted_head_are_those_of_all_its_logits(
    dora: bool, whole: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy took the linear inside peft's wrapper for the head: its texts were those without the adapter."""
    monkeypatch.setattr(cpu_linear, "MIN_OUT_FEATURES", {torch.float32: 1, torch.bfloat16: 1})
    torch.manual_seed(0)
    model = tiny_model("llama", seed=0)
    targets = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]} if whole else {}
    config = LoraConfig(r=4, use_dora=dora, **{"target_modules": ["lm_head"], **targets})
    adapted = get_peft_model(model, config).eval()
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    lm_head = LMHead(adapted.get_base_model(), TEXT_VOCAB)
    hidden = torch.randn(rows, lm_head.width)
    expected = lm_head.logits(hidden).max(-1)
    best = lm_head.best(hidden)
    assert best.ids.tolist() == expected.indices.tolist()
    assert torch.allclose(best.values, expected.values, atol=1e-4)


def test_a_logit_that_is_not_a_number_is_the_best_one() -> None:
    """Otherwise the check for finite logits would not find it."""
    logits = torch.zeros(100, 3)
    logits[70, 1] = float("nan")
    assert column_maxima(logits).values.isnan().tolist() == [False, True, False]
