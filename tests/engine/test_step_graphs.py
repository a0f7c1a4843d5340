"""Decode steps that are rounded up and replayed give the texts of plain steps.

On a CPU every step is computed anew from the buffers that a graph would read, so that everything but the
recording is tested everywhere. Run line on a machine with a GPU: pytest -m gpu tests/engine
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.engine.step_graphs import FEWEST_ROWS, LENGTH_STEP, StepGraphs, can_record, should_record
from s2t_eval.engine.upper_scorer import make_scorer
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.models.decoder_layers import decoder_layers
from s2t_eval.models.lora import first_adapted_layer
from s2t_eval.selection.policy import greedy, s2t
from s2t_eval.selection.triggers import KlTrigger
from tests.engine.test_devices import DEVICES
from tests.engine.test_layer_forms import model_of
from tests.engine.test_upper_scorer import adapted_last
from tests.twins import generate_greedy, outputs, requests, tiny_model

FAMILIES = ("llama", "qwen2", "qwen3")


def replaying(model: PreTrainedModel, device: str) -> ModelRunner:
    return ModelRunner(model.to(device), step_graphs=True)  # type: ignore[arg-type]


def texts_of(decoder: Decoder, asked: list[Request]) -> list[list[int]]:
    return outputs(sorted(decoder.run(asked), key=lambda result: result.index))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_texts_are_those_of_generate(device: str, family: str) -> None:
    """Seven requests of different lengths through three rows: rows leave and are filled again."""
    asked = requests(7)
    expected = [generate_greedy(model_of(family), request) for request in asked]
    student = replaying(model_of(family), device)
    assert texts_of(Decoder(student, greedy(), rows=3), asked) == expected
    assert student._graphs is not None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("verify", [1, 4])
def test_selection_is_that_of_plain_steps(device: str, verify: int) -> None:
    asked, chosen = requests(6), s2t(KlTrigger(), 0.5, top_k=6)
    models = [tiny_model("qwen2", 0), tiny_model("qwen2", 1, hidden_size=48)]
    plain_student, plain_teacher = (ModelRunner(model, compile="never") for model in models)
    plain = Decoder(plain_student, chosen, plain_teacher, rows=4)
    expected = texts_of(plain, asked)
    student, teacher = (replaying(model, device) for model in models)
    assert texts_of(Decoder(student, chosen, teacher, rows=4, verify=verify), asked) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_rounded_up_step_costs_a_full_row_its_last_token_alone(device: str) -> None:
    """Three rows are computed as four: the fourth has a text in all its slots, and loses the last one."""
    model, capacity = tiny_model("llama", 0), 24
    runner, plain = replaying(model, device), ModelRunner(model, compile="never")
    text = [5 + i % 7 for i in range(capacity)]
    with torch.inference_mode():
        for one in (runner, plain):
            one.allocate(4, capacity)
            one.prefill(range(4), [[3, 4], [6], [7, 8, 9], text])
        states = [one.append([11, 12, 13]) for one in (runner, plain)]
        torch.testing.assert_close(*(state.cpu() for state in states), rtol=0, atol=5e-6)
        assert runner.tokens[3] == text[:-1] and plain.tokens[3] == text
        again = [one.prefill([3], [text]) for one in (runner, plain)]
    assert again[0].computed == [1]
    torch.testing.assert_close(*(one.hidden.cpu() for one in again), rtol=0, atol=5e-6)


def test_few_shapes_serve_a_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    step = StepGraphs._step

    def noted(self: StepGraphs, rows: int, length: int) -> torch.Tensor:
        shapes.append((rows, length))
        return step(self, rows, length)

    monkeypatch.setattr(StepGraphs, "_step", noted)
    asked = [replace(request, max_new_tokens=LENGTH_STEP + i) for i, request in enumerate(requests(12))]
    list(Decoder(replaying(tiny_model("llama", 0), "cpu"), greedy(), rows=12).run(asked))
    assert len(shapes) > LENGTH_STEP
    assert {rows for rows, _ in shapes} == {FEWEST_ROWS, 12}
    assert len({length for _, length in shapes}) == 2


def test_new_weights_and_another_cache_need_other_graphs() -> None:
    runner = replaying(tiny_model("llama", 0), "cpu")
    runner.allocate(2, 32)
    first = runner._step_graphs()
    assert runner._step_graphs() is first
    runner.allocate(2, 64)  # a larger cache
    second = runner._step_graphs()
    assert second is not first
    runner.allocate(2, 64)
    assert runner._step_graphs() is second
    projection = runner.body.get_submodule("layers.0.mlp.up_proj")
    projection.weight = torch.nn.Parameter(projection.weight * 2)
    runner.allocate(2, 64)
    assert runner._step_graphs() is not second


def test_models_of_other_forms_keep_their_plain_steps() -> None:
    gemma = replaying(tiny_model("gemma2", 0), "cpu")
    gemma.allocate(2, 32)
    assert gemma._step_graphs() is None
    hooked = tiny_model("llama", 0)
    body = hooked.get_decoder()
    layers = decoder_layers(body, hooked.config.num_hidden_layers)
    assert can_record(body, len(layers))
    layers[0].forward = layers[0].forward  # as accelerate does, which loads offloaded weights there
    assert not can_record(body, len(layers))


def test_auto_records_on_a_gpu_alone() -> None:
    devices = [torch.device(name) for name in ("cpu", "cuda")]
    assert [should_record("auto", device) for device in devices] == [False, True]
    assert [should_record("always", device) for device in devices] == [False, True]
    assert [should_record("never", device) for device in devices] == [False, False]


def test_a_model_whose_steps_are_not_replayed_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """They were computed as before, and nobody who gave compile=auto learnt of it."""
    gemma = ModelRunner(tiny_model("gemma2", 0), "gemma", step_graphs=True)
    gemma.allocate(2, 32)
    assert "gemma: its decode steps are not replayed as CUDA graphs: its layers are not of" in caplog.text
    caplog.clear()
    peft = adapted_last(tiny_model("llama", 0), 1)
    for recorded in (False, True):
        student = ModelRunner(peft.get_base_model(), "student", step_graphs=recorded)
        make_scorer(student, first_adapted_layer(peft), "scorer", AdapterSwitch(peft))
        student.allocate(2, 32)
        assert student._step_graphs() is None
        warning = "student: its decode steps are not replayed as CUDA graphs: a scorer with an adapter on"
        assert (warning in caplog.text) == recorded


def test_a_model_none_of_whose_layers_is_compiled_is_named(caplog: pytest.LogCaptureFixture) -> None:
    for family, is_compiled in (("llama", True), ("gemma2", False)):
        runner = ModelRunner(tiny_model(family, 0), family, compile="always", step_graphs=False)
        runner._apply_compile()  # without the passes, which would have to be compiled
        assert (f"{family}: none of its layers is compiled" in caplog.text) == (not is_compiled)
