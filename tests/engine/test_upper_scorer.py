"""A scorer with an adapter on the last layers computes these alone, and picks the same tokens."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner, Request, Result
from s2t_eval.engine.upper_scorer import UpperScorer, make_scorer
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.models.lora import first_adapted_layer, with_lora
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.selection import policy as presets
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.scores import DirectScore, LookaheadScore, ResidualScore
from s2t_eval.selection.triggers import MarginTrigger
from tests.engine.test_local import ALWAYS, readout, slow_pick
from tests.twins import hidden_after, outputs, requests, slow_decode, tiny_model

KNOWN = ("qwen2", "llama")


def adapted_last(model: PreTrainedModel, last_layers: int | None) -> PeftModel:
    """A copy of the model with a random adapter on its last layers."""
    peft = with_lora(copy.deepcopy(model), LoraSettings(4, 8), last_layers)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return peft.eval()


def pps(
    peft: PeftModel, policy: Policy, rows: int, pending: list[Request], scorer: ModelRunner | None = None
) -> list[Result]:
    """The plain model writes, the adapted one scores; the adapter is as enabled afterwards as before."""
    peft.base_model.disable_adapter_layers()
    try:
        student = ModelRunner(peft.get_base_model(), "student")
        enabled = AdapterSwitch(peft)
        scorer = scorer or make_scorer(student, first_adapted_layer(peft), "scorer", enabled)
        decoder = Decoder(student, policy, rows=rows, scorer=scorer)
        results = {result.index: result for result in decoder.run(pending)}
    finally:
        peft.base_model.enable_adapter_layers()
    return [results[i] for i in range(len(pending))]


LAYERS_AND_TRIGGERS = {"1-margin": (1, MarginTrigger()), "2-always": (2, ALWAYS)}
QUICK = [
    ("qwen2", "1-margin", "lookahead"),
    ("llama", "2-always", "residual"),
    ("qwen2", "2-always", "direct"),
]
"""Each family, form, trigger and number of layers once; `make slow` runs the others."""


@pytest.mark.parametrize(
    ("family", "adapted", "form"),
    [
        pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
        for case in itertools.product(KNOWN, LAYERS_AND_TRIGGERS, ["lookahead", "residual", "direct"])
    ],
)
def test_it_picks_what_its_slow_twin_picks(family: str, adapted: str, form: str) -> None:
    """Rows are refilled, and every candidate of the twin is a text of its own through all layers."""
    last_layers, trigger = LAYERS_AND_TRIGGERS[adapted]
    student = tiny_model(family, seed=0)
    peft = adapted_last(student, last_layers)
    scores = {"lookahead": LookaheadScore, "residual": ResidualScore}
    score = scores[form](readout(student)) if form in scores else DirectScore()
    policy = presets.s2t_local(trigger, 0.6, score, top_k=3, warmup_tokens=1)
    pending = requests(4)
    expected = slow_decode(student, policy, pending, slow_pick(student, peft, score))
    for rows in (1, 3):
        results = pps(peft, policy, rows, pending)
        assert outputs(results) == expected
    assert sum(result.usage.flips for result in results) > 0


@pytest.mark.parametrize("family", KNOWN)
def test_its_states_are_those_of_all_layers(family: str) -> None:
    """After a truncation and another text in the row too: the student's states follow its row."""
    peft = adapted_last(tiny_model(family, seed=0), 1)
    base = peft.get_base_model()
    peft.base_model.disable_adapter_layers()
    student = ModelRunner(base, "student")
    scorer = make_scorer(student, first_adapted_layer(peft), "scorer", AdapterSwitch(peft))
    for runner in (student, scorer):
        runner.allocate(2, 40)
    texts = [[5, 6, 7, 8, 9], [3, 1, 4, 1, 5, 9, 2, 6]]
    changed = [[5, 6, 7, 11, 12, 13], texts[1]]
    candidates = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert isinstance(scorer, UpperScorer)
    with torch.inference_mode():
        for current in (texts, changed):
            student.prefill([0, 1], current)
            states = scorer.score_candidates([0, 1], current, candidates)
            with AdapterSwitch(peft)():
                for row, text in enumerate(current):
                    torch.testing.assert_close(states.hidden[row], hidden_after(base, text))
                    for lane, token in enumerate(candidates[row].tolist()):
                        expected = hidden_after(base, [*text, token])
                        torch.testing.assert_close(states.lanes[row, lane], expected)
    assert set(scorer.cache._layers) == {2}, "keys and values of the adapted layer alone"


@pytest.mark.parametrize("last_layers", [None, 3])
def test_an_adapter_on_the_first_layer_leaves_nothing_to_share(last_layers: int | None) -> None:
    peft = adapted_last(tiny_model("qwen2", seed=0), last_layers)
    assert first_adapted_layer(peft) == 0
    scorer = make_scorer(ModelRunner(peft.get_base_model()), 0, "scorer", AdapterSwitch(peft))
    assert type(scorer) is ModelRunner


def test_layers_of_another_form_are_all_computed() -> None:
    """Gemma's layers are not known to pass a state on as it is, so its scorer reads every token itself."""
    student = tiny_model("gemma2", seed=0)
    peft = adapted_last(student, 1)
    policy = presets.s2t_local(MarginTrigger(), 0.6, DirectScore(), top_k=3)
    expected = slow_decode(student, policy, requests(2), slow_pick(student, peft, DirectScore()))
    assert outputs(pps(peft, policy, 2, requests(2))) == expected


def test_more_layers_than_the_student_has_are_refused() -> None:
    with pytest.raises(ValueError, match="last_layers: expected at most the student's 3, got 4"):
        with_lora(tiny_model("llama", seed=0), LoraSettings(4, 8), 4)


def test_a_loaded_adapter_lies_on_the_layers_that_it_was_trained_on(tmp_path: Path) -> None:
    """peft resolves "all-linear" to whole paths, to which it does not apply `layers_to_transform`."""
    student = tiny_model("llama", seed=0)
    peft = adapted_last(student, 1)
    peft.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(student), str(tmp_path))
    assert first_adapted_layer(peft) == first_adapted_layer(loaded) == 2
