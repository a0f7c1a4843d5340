"""Hidden states at the steps of texts against plain forwards, and chunks against the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s2t_eval.engine import ModelRunner
from s2t_eval.training.step_states import by_chunks, step_states
from tests.twins import tiny_model

PROMPTS = [(3,), (5, 8, 13, 2), (7, 1, 9)]
OUTPUTS = [[4, 6, 11], [10], [2, 2, 12, 30, 14]]


@torch.inference_mode()
def test_the_states_of_an_output_predict_each_of_its_tokens() -> None:
    model = tiny_model("qwen2", 0)
    runner = ModelRunner(model)
    for states, prompt, output in zip(step_states(runner, PROMPTS, OUTPUTS), PROMPTS, OUTPUTS, strict=True):
        logits = model(torch.tensor([[*prompt, *output]])).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(runner.head(states), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_chunks_of_any_size_give_the_results_of_the_whole(size: int) -> None:
    """Several columns are cut at the same steps, and no chunk is longer than its size."""
    states, ids = torch.arange(14.0).view(7, 2), torch.tensor([0, 1, 1, 0, 1, 0, 0])

    def picked(states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        assert len(states) == len(ids) <= size
        return states.gather(1, ids[:, None])[:, 0], states

    values, same = by_chunks(picked, states, ids, size=size)
    assert values.tolist() == [0, 3, 5, 6, 9, 10, 12]
    assert torch.equal(same, states)
