"""Compiled decoder layers give the numbers of the plain ones, from a few graphs that all layers share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import LlamaConfig, LlamaForCausalLM

from s2t_eval.engine import Decoder, ModelRunner, compiled_layers
from s2t_eval.engine.compiled_layers import can_compile, compiled_layer
from s2t_eval.engine.upper_scorer import UpperScorer, make_scorer
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.models.decoder_layers import decoder_layers
from s2t_eval.models.lora import first_adapted_layer
from s2t_eval.selection.policy import Policy, greedy, s2t, s2t_local
from s2t_eval.selection.scores import DirectScore
from s2t_eval.selection.triggers import KlTrigger, MarginTrigger
from tests.engine.test_layer_forms import SHAPE, model_of
from tests.engine.test_upper_scorer import adapted_last, pps
from tests.twins import decode, generate_greedy, outputs, requests, tiny_model

FAMILIES = ("llama", "qwen2", "qwen3")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The regions are traced as for a compiler, but their graphs run as they are, in seconds."""
    monkeypatch.setattr(compiled_layers, "BACKEND", "eager")
    yield from _fresh_graphs()


@pytest.fixture
def built() -> Iterator[None]:
    """The regions are built by the compiler that users have."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, which torch.compile needs on a CPU")
    yield from _fresh_graphs()


def _fresh_graphs() -> Iterator[None]:
    for empty in (compiled_layers.compiled.cache_clear, torch._dynamo.reset, counters.clear):
        empty()
    yield
    compiled_layers.compiled.cache_clear()
    torch._dynamo.reset()


def compare_states(family: str, dtype: torch.dtype, tolerance: float) -> None:
    """The states of prompts, of steps and of several tokens at once, beside those of plain layers."""
    model = model_of(family).to(dtype)
    runners = [ModelRunner(model, compile="always"), ModelRunner(model)]
    prompts = [request.prompt_ids for request in requests(5)]
    rows = range(len(prompts))
    for runner in runners:
        runner.allocate(len(prompts), 128)
    assert [function for _, function in runners[0]._forms].count(compiled_layer) == 3
    with torch.inference_mode():
        states = [runner.prefill(rows, prompts).hidden for runner in runners]
        torch.testing.assert_close(*states, rtol=0, atol=tolerance)
        for token in (5, 9):
            states = [runner.append([token] * len(prompts)) for runner in runners]
            torch.testing.assert_close(*states, rtol=0, atol=tolerance)
        for new in ([[4]], [[3, 8, 1]]):
            states = [runner.extend([2], new)[0] for runner in runners]
            torch.testing.assert_close(*states, rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("traced")
def test_states_are_those_of_the_plain_layers(family: str) -> None:
    compare_states(family, torch.float32, 5e-6)
    # Two regions, each for one token and for any other number of them.
    assert counters["stats"]["unique_graphs"] == 4
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("built")
def test_built_regions_give_the_states_of_the_plain_layers(dtype: torch.dtype) -> None:
    compare_states("qwen2", dtype, 5e-6 if dtype == torch.float32 else 0.25)


@pytest.mark.usefixtures("traced")
def test_greedy_texts_are_those_of_generate() -> None:
    """Rows are refilled: the number of tokens in a pass changes all the time."""
    model, pending = tiny_model("qwen2", seed=0), requests()
    expected = [generate_greedy(model, request) for request in pending]
    decoder = Decoder(ModelRunner(model, compile="always"), greedy(), rows=4)
    assert {result.index: result.output_ids for result in decoder.run(pending)} == dict(enumerate(expected))


@pytest.mark.usefixtures("traced")
def test_a_compiled_student_and_teacher_of_two_sizes_write_the_same_texts() -> None:
    student, teacher = tiny_model("qwen2", seed=0), tiny_model("qwen2", seed=1, hidden_size=96)
    pending, policy = requests(5), s2t(KlTrigger(), 0.5, top_k=4)
    expected = outputs(decode(student, policy, pending, teacher))
    runners = [ModelRunner(model, compile="always") for model in (student, teacher)]
    for verify in (1, 4):
        decoder = Decoder(runners[0], policy, runners[1], rows=3, verify=verify)
        written = {result.index: result.output_ids for result in decoder.run(pending)}
        assert [written[i] for i in range(len(pending))] == expected


@pytest.mark.usefixtures("traced")
def test_a_scorer_of_the_last_layers_skips_compiled_layers_too() -> None:
    peft = adapted_last(tiny_model("llama", seed=0), 1)
    policy: Policy = s2t_local(MarginTrigger(), 0.6, DirectScore(), top_k=3)
    expected = outputs(pps(peft, policy, 2, requests(4)))
    student = ModelRunner(peft.get_base_model(), "student", compile="always")
    scorer = make_scorer(student, first_adapted_layer(peft), "scorer", AdapterSwitch(peft))
    assert isinstance(scorer, UpperScorer)
    peft.base_model.disable_adapter_layers()
    results = {
        result.index: result for result in Decoder(student, policy, rows=2, scorer=scorer).run(requests(4))
    }
    assert outputs([results[i] for i in range(4)]) == expected


def test_layers_that_are_not_plain_are_left_alone() -> None:
    """An adapter, weights that a hook brings, and another activation: none of them is in the regions."""
    adapted = decoder_layers(adapted_last(tiny_model("qwen2", seed=0), 1).get_base_model().get_decoder(), 3)
    assert [can_compile(layer) for layer in adapted] == [True, True, False]
    hooked = tiny_model("qwen2", seed=0).get_decoder().layers[0]
    hooked.mlp.up_proj.forward = hooked.mlp.up_proj.forward
    assert not can_compile(hooked)
    torch.manual_seed(0)
    other = LlamaForCausalLM(LlamaConfig(**SHAPE, hidden_act="gelu"))
    assert not any(can_compile(layer) for layer in other.get_decoder().layers)
    assert not any(can_compile(layer) for layer in tiny_model("gemma2", seed=0).get_decoder().layers)
