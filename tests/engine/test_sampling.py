"""Draws against the distribution they come from, and filters against transformers' own."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from s2t_eval.engine import Request, Sampling, derive_seed
from s2t_eval.engine.sampling import sample
from s2t_eval.selection.policy import greedy
from tests.twins import decode, outputs, prompts

LOGITS = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)) * 3
FILTERS = [
    Sampling(),
    Sampling(temperature=0.5),
    Sampling(top_k=3),
    Sampling(top_p=0.6),
    Sampling(0.7, 0.8, 20),
    Sampling(2.0, 0.95, 5),
]


def transformers_probs(sampling: Sampling) -> torch.Tensor:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    warpers.append(TopPLogitsWarper(sampling.top_p))
    probs: torch.Tensor = warpers(torch.zeros(1, 1, dtype=torch.long), LOGITS.clone()).softmax(-1)[0]
    return probs


@pytest.mark.parametrize("sampling", FILTERS)
def test_draws_follow_the_filtered_distribution(sampling: Sampling) -> None:
    n = 20_000
    numbers = torch.rand(n, generator=torch.Generator().manual_seed(1)).tolist()
    drawn = sample(LOGITS.expand(n, -1), sampling, numbers)
    counts = torch.bincount(drawn, minlength=40).double()
    expected = transformers_probs(sampling).double()
    assert counts[expected == 0].sum() == 0
    likely = expected * n > 5
    if likely.sum() > 1:
        found, wanted = counts[likely], expected[likely]
        assert chisquare(found, wanted / wanted.sum() * found.sum()).pvalue > 1e-3


def test_the_ends_of_the_unit_interval() -> None:
    order = LOGITS[0].argsort(descending=True)
    assert sample(LOGITS, Sampling(), [0.0]).item() == order[0]
    assert sample(LOGITS, Sampling(top_k=3), [1 - 1e-12]).item() == order[2]


@pytest.mark.parametrize(
    "sampling", [Sampling(1e-29), Sampling(1e-39, 0.9, 5), Sampling(1e-300), Sampling(top_p=1e-300)]
)
def test_smallest_temperatures_and_masses_draw_the_most_likely_token(sampling: Sampling) -> None:
    """Both are legal, and 0 in float32: quotients became infinite, or no token was left to draw."""
    logits = torch.cat([LOGITS, -LOGITS, 0 * LOGITS - 1])
    logits[2, 7] = -1 + 1e-6
    drawn = sample(logits, sampling, [0.0, 0.5, 0.999999])
    assert drawn.tolist() == logits.argmax(-1).tolist()


def test_texts_depend_on_the_seed_alone() -> None:
    from tests.twins import tiny_model

    model: PreTrainedModel = tiny_model("qwen2", seed=0)
    asked = [
        Request(prompt, 15, sampling=Sampling(), seed=derive_seed(7, i))
        for i, prompt in enumerate(prompts(8))
    ]
    alone = outputs(decode(model, greedy(), asked, rows=1))
    assert outputs(decode(model, greedy(), asked, rows=5)) == alone
    assert outputs(decode(model, greedy(), asked[::-1], rows=5))[::-1] == alone
    other = [
        Request(r.prompt_ids, 15, sampling=Sampling(), seed=derive_seed(8, i)) for i, r in enumerate(asked)
    ]
    assert outputs(decode(model, greedy(), other, rows=5)) != alone


def test_of_equal_logits_the_smaller_ids_are_kept() -> None:
    """Logits of low precision are often equal; `torch.topk` keeps any of them, each device others."""
    torch.manual_seed(0)
    logits = (torch.randn(40, 5000) * 4).bfloat16().float()
    last = sample(logits, Sampling(top_k=20), [1 - 1e-7] * 40)  # the last of those that are kept
    expected = logits.sort(dim=-1, descending=True, stable=True).indices[:, 19]
    assert last.tolist() == expected.tolist()


def test_greedy_and_sampled_texts_share_a_batch() -> None:
    from tests.twins import tiny_model

    model = tiny_model("qwen2", seed=0)
    prompt = prompts(3)[1]
    plain = Request(prompt, 10)
    drawn = Request(prompt, 10, sampling=Sampling(), seed=1)
    mixed = outputs(decode(model, greedy(), [plain, drawn, plain]))
    assert mixed[0] == mixed[2] == outputs(decode(model, greedy(), [plain]))[0]
    assert mixed[1] == outputs(decode(model, greedy(), [drawn]))[0]


def test_seeds_differ_by_every_part() -> None:
    seeds = {
        derive_seed(s, task, doc, r) for s in (0, 1) for task in "ab" for doc in (1, 11) for r in (1, 11)
    }
    assert len(seeds) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: expected above 0 to sample, got 0.0"),
        ({"top_p": 0.0}, r"top_p: expected in \(0, 1\], got 0.0"),
        ({"top_k": -1}, r"sample_top_k: expected 0 \(all\) or more, got -1"),
    ],
)
def test_impossible_sampling(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**options)  # type: ignore[arg-type]
