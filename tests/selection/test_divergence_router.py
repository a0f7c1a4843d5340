"""R2R's router and its trigger, against the same network written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from s2t_eval.selection.divergence_router import DivergenceRouter, DivergenceTrigger
from s2t_eval.selection.router import Router
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.selection.step import Step
from s2t_eval.selection.triggers import RouterTrigger

HIDDEN, VOCAB = 6, 11
SIZE = RouterSize(width=8, blocks=2, num_logits=4, dropout=0.5)


def linear(weights: dict[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ inputs + weights[f"{name}.bias"]


def normal(weights: dict[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    scaled = (inputs - inputs.mean()) / (inputs.var(unbiased=False) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def slow_odds(router: DivergenceRouter, hidden: Tensor, embedding: Tensor, logits: Tensor) -> float:
    """One step, one operation after the other, from the network's weights alone."""
    w = router.state_dict()
    state = torch.cat([hidden, embedding, linear(w, "logits_in", logits.sort(descending=True).values[:4])])
    state = linear(w, "mix.1", linear(w, "mix.0", state))
    for block in ("blocks.0.layers", "blocks.1.layers"):
        inner = linear(w, f"{block}.1", normal(w, f"{block}.0", state))
        state = state + linear(w, f"{block}.4", nn.functional.gelu(inner))
    return float(linear(w, "odds.1", normal(w, "odds.0", state)))


def test_the_trigger_is_its_slow_twin_row_by_row() -> None:
    torch.manual_seed(3)
    router = DivergenceRouter(HIDDEN, SIZE).eval()
    for parameter in router.parameters():  # biases and LayerNorm's weights are not trivial either
        nn.init.normal_(parameter, std=0.5)
    table = nn.Embedding(VOCAB, HIDDEN)
    logits, hidden = torch.randn(5, VOCAB) * 4, torch.randn(5, HIDDEN)
    step = Step(logits, None, lambda: torch.zeros(5), hidden)
    with torch.no_grad():
        values = DivergenceTrigger(router, table).divergence(step)
        expected = [
            slow_odds(router, hidden[row], table.weight[int(logits[row].argmax())], logits[row])
            for row in range(5)
        ]
    assert values.tolist() == pytest.approx(torch.tensor(expected).sigmoid().tolist(), abs=1e-5)
    assert values.std() > 0.01


def test_the_paper_s_size() -> None:
    """About 54 million parameters at a student's width of 896, three quarters in the blocks."""
    router = DivergenceRouter(896, RouterSize(width=1024))
    total = sum(parameter.numel() for parameter in router.parameters())
    assert total == pytest.approx(54e6, rel=0.02)
    assert sum(p.numel() for p in router.blocks.parameters()) == pytest.approx(50.4e6, rel=0.01)
    assert all(not m.bias.any() for m in router.modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"blocks": 0}, {"num_logits": 0}, {"dropout": 1.0}])
def test_sizes_that_do_not_exist(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: expected "):
        RouterSize(**wrong)  # type: ignore[arg-type]


def test_a_router_reads_a_student_over_several_devices() -> None:
    """The router is beside the embeddings; the last layer and the head may be on other devices."""
    router, table = DivergenceRouter(HIDDEN, SIZE).eval().to("meta"), nn.Embedding(VOCAB, HIDDEN).to("meta")
    step = Step(torch.randn(5, VOCAB), None, lambda: torch.zeros(5), torch.randn(5, HIDDEN))
    assert DivergenceTrigger(router, table).divergence(step).device.type == "meta"
    trigger = RouterTrigger(Router(HIDDEN).eval().to("meta"))
    assert trigger.divergence(step).device.type == "meta"
