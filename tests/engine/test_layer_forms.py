"""Layers computed with fewer kernels give the numbers of transformers' own, and a step waits once."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from benchmarks import kernels
from s2t_eval.engine import Decoder, ModelRunner
from s2t_eval.engine.attention import Pass
from s2t_eval.engine.kv_cache import KVCache
from s2t_eval.engine.layer_forms import forms_of, rms_norm, rotate
from s2t_eval.selection.policy import greedy
from tests.twins import VOCAB, generate_greedy, requests, tiny_model

SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,
}


def qwen3() -> PreTrainedModel:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SHAPE))
    model.generation_config.eos_token_id = None
    return model.eval()


def model_of(family: str) -> PreTrainedModel:
    return qwen3() if family == "qwen3" else tiny_model(family, seed=0)


def test_a_model_without_a_form_keeps_its_layers() -> None:
    assert forms_of(tiny_model("gemma3", seed=0), fused_norms=True) == []


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("fused_norms", [False, True])
def test_hidden_states_are_those_of_the_model_s_own_layers(family: str, fused_norms: bool) -> None:
    model = model_of(family)
    with_forms, plain = ModelRunner(model, fused_norms=fused_norms), ModelRunner(model)
    texts = [request.prompt_ids for request in requests()]
    for runner in (with_forms, plain):
        runner.allocate(len(texts), 128)
    plain._forms = []
    assert len(with_forms._forms) == (10 if fused_norms and family != "qwen3" else 16 if fused_norms else 3)
    rows = range(len(texts))
    states = [runner.prefill(rows, texts).hidden for runner in (with_forms, plain)]
    torch.testing.assert_close(*states, rtol=0, atol=2e-6)
    for token in (5, 9, 17):
        states = [runner.append([token] * len(texts)) for runner in (with_forms, plain)]
        torch.testing.assert_close(*states, rtol=0, atol=2e-6)


def test_greedy_with_norms_in_one_kernel_is_generate() -> None:
    model, asked = qwen3(), requests()
    expected = [generate_greedy(model, request) for request in asked]
    decoder = Decoder(ModelRunner(model, fused_norms=True), greedy(), rows=4)
    assert {result.index: result.output_ids for result in decoder.run(asked)} == dict(enumerate(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_in_one_kernel_rounds_as_transformers_does(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = LlamaRMSNorm(96, eps=1e-5).to(dtype)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        states = 3 * torch.randn(2, 5, 96).to(dtype)
        assert torch.equal(rms_norm(norm, states), norm(states))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_are_rotated_as_transformers_rotates_them(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    states = torch.randn(7, 5, 16).to(dtype)
    angles = torch.randn(1, 7, 8).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    query, key = (part.transpose(0, 1)[None] for part in states.split([3, 2], dim=1))
    expected = torch.cat(apply_rotary_pos_emb(query, key, cos, sin), dim=1)[0].transpose(0, 1)
    plan = Pass(KVCache(1, 1), torch.zeros(1), [])
    rotate(states, plan.rotation((cos, sin)))
    assert torch.equal(states, expected)
    assert plan.rotation((cos, sin)) is plan.rotation((cos, sin))


def test_the_cache_holds_keys_and_values_joined_or_apart() -> None:
    torch.manual_seed(0)
    index = torch.tensor([0, 1, 5])
    states = torch.randn(3, 4, 2)
    joined, apart = KVCache(2, 4), KVCache(2, 4)
    layers = [
        joined.write_joined(0, index, states, 2),
        apart.write(0, index, states[:, :2], states[:, 2:]),
    ]
    for cache in (joined, apart):
        cache.copy(torch.tensor([1, 0]), torch.tensor([2, 1]))
    for name in ("keys", "values"):
        assert torch.equal(*(getattr(layer, name) for layer in layers))
    grown = [cache.grown(6) for cache in (joined, apart)]
    views = [
        [cache.view(states, slice(0, 2), 3) for states in (layer.keys, layer.values)]
        for cache in grown
        for layer in cache._layers.values()
    ]
    for one, two in zip(*views, strict=True):
        assert torch.equal(one, two)
    assert torch.equal(views[0][0][0, :, 1], states[0, :2])


# ---------------------------------------------------------------- counts


@pytest.fixture(scope="module")
def deep_model() -> PreTrainedModel:
    """As many layers as Qwen2.5-0.5B has; their width changes no count."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**{**SHAPE, "num_hidden_layers": 24})).eval()


def test_kernels_and_synchronisations_of_a_step(deep_model: PreTrainedModel) -> None:
    """Once 934 kernels and 4 reads of tensors, where stock `generate` has 895 and 1."""
    runner = ModelRunner(deep_model, fused_norms=True)
    ours = kernels.step_costs(lambda tokens: kernels.decode(runner, 2, tokens))
    stock = kernels.step_costs(lambda tokens: kernels.generate(deep_model, 2, tokens))
    assert ours.kernels <= 700, ours.by_name
    assert ours.kernels < 0.73 * stock.kernels
    assert ours.reads == 1


def test_kernels_are_counted_once() -> None:
    """A norm of its own has the kernels that its formula has; a fused one, and a linear with a bias, one."""
    norm, linear = LlamaRMSNorm(8), torch.nn.Linear(8, 8)
    states = torch.randn(2, 8)

    def costs(function: object) -> float:
        return kernels.step_costs(lambda tokens: [function(states) for _ in range(tokens)] and None).kernels  # type: ignore[operator]

    with torch.no_grad():
        assert costs(norm) == 6  # squares, mean, sum with epsilon, inverse root, two products
        assert costs(lambda x: rms_norm(norm, x)) == 1
        assert costs(linear) == 1
        assert costs(lambda x: x.view(16).view(2, 8).T) == 0


def test_reads_of_tensors_are_counted() -> None:
    one = torch.ones(2)
    with kernels.CountedReads() as reads:
        one.tolist()
        bool(one.sum() > 1)
        one.sum().item()
        one + one
    assert reads.count == 3
