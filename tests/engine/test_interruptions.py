"""Ctrl-C in the middle of a pass, after which a session goes on with the same models.

A pass used to enter the tokens of its rows before their keys and values were computed, and Ctrl-C, which is
no `Exception`, did not clear the caches: the next run copied keys and values that were never written, and
its texts were wrong without an error.
"""

from __future__ import annotations

import functools
import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.engine.layer_forms import Forms, forms_enabled
from s2t_eval.engine.layer_split import LayerSplit
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.engine.upper_scorer import UpperScorer, make_scorer
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.methods.specreason.stepper import SpecReasonDecoder
from s2t_eval.methods.tah.decoder import LoopedDecoder
from s2t_eval.methods.tah.runner import LoopedRunner
from s2t_eval.methods.tot.decoder import TreeDecoder
from s2t_eval.models.decoder_layers import decoder_layers
from s2t_eval.models.lora import first_adapted_layer
from s2t_eval.selection import policy as presets
from s2t_eval.selection.scores import DirectScore
from s2t_eval.selection.triggers import ConstantTrigger, KlTrigger
from tests.engine.test_upper_scorer import adapted_last
from tests.methods.test_specreason import ENDS, MIDDLE, SCORES, spell
from tests.methods.test_tah_decoding import adapted, always
from tests.tot_twins import SEARCH, VALUES
from tests.twins import hidden_after, outputs, requests, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LAST_LAYER = 2
ROWS = 3

Method = tuple[Scheduler[Any], Sequence[ModelRunner]]
"""A decoder, and the models that it runs."""


@pytest.fixture(autouse=True)
def _python_s_own_handler() -> Iterator[None]:
    """A shell without job control lets commands in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ctrl_c_in_pass(runner: ModelRunner, number: int) -> Iterator[None]:
    """Ctrl-C arrives in a model's pass of this number, from 1, before its last layer is computed."""
    passes = itertools.count(1)

    def interrupt(*_: object) -> None:
        if next(passes) == number:
            signal.raise_signal(signal.SIGINT)

    layers = decoder_layers(runner.body, runner.config.num_hidden_layers)
    handle = layers[LAST_LAYER].register_forward_pre_hook(interrupt)
    try:
        yield
    finally:
        handle.remove()


def runners_of_a_pair() -> list[ModelRunner]:
    return [
        ModelRunner(tiny_model("qwen2", 0), "student"),
        ModelRunner(tiny_model("qwen2", 1, 48), "teacher"),
    ]


def plain() -> Method:
    student = ModelRunner(tiny_model("qwen2", 0))
    return Decoder(student, presets.greedy(), rows=ROWS), [student]


def select_to_think(verify: int) -> Method:
    student, teacher = runners_of_a_pair()
    policy = presets.s2t(KlTrigger(), 0.5, top_k=6)
    return Decoder(student, policy, teacher, ROWS, verify=verify), [student, teacher]


def preserving_proposals() -> Method:
    peft = adapted_last(tiny_model("qwen2", 0), 1)
    peft.base_model.disable_adapter_layers()
    student = ModelRunner(peft.get_base_model(), "student")
    scorer = make_scorer(student, first_adapted_layer(peft), "scorer", AdapterSwitch(peft))
    assert isinstance(scorer, UpperScorer)
    policy = presets.s2t_local(ConstantTrigger("always"), 0.0, DirectScore(), top_k=3)
    return Decoder(student, policy, rows=ROWS, scorer=scorer), [student, scorer]


def think_at_hard() -> Method:
    student = LoopedRunner(adapted("qwen2"), read=(0, 1))
    return LoopedDecoder(student, always, 2, 20, ROWS), [student]


def speculative_reasoning() -> Method:
    student, teacher = runners_of_a_pair()
    decoder = SpecReasonDecoder(student, teacher, ENDS, SCORES["digit"], MIDDLE["digit"], ROWS, spell)
    return decoder, [student, teacher]


def tree_of_thoughts() -> Method:
    student = ModelRunner(tiny_model("qwen2", 0))
    return TreeDecoder(student, SEARCH, ENDS, VALUES["vote"], 12, spell), [student]


METHODS: dict[str, Callable[[], Method]] = {
    "greedy": plain,
    "lockstep": lambda: select_to_think(1),
    "chunks": lambda: select_to_think(4),
    "pps": preserving_proposals,
    "tah": think_at_hard,
    "specreason": speculative_reasoning,
    "tot": tree_of_thoughts,
}
ONE_MODEL = ("greedy", "tah", "tot")
PLACES = [(name, 0) for name in METHODS] + [(name, 1) for name in METHODS if name not in ONE_MODEL]
"""Each method with each of its models, by their place in `Method`."""


def texts(decoder: Scheduler[Any], asked: Sequence[Request]) -> list[list[int]]:
    return outputs(sorted(decoder.run(asked), key=lambda result: result.index))


@functools.cache
def undisturbed_texts(name: str) -> list[list[int]]:
    return texts(METHODS[name]()[0], requests(4))


@pytest.mark.parametrize(
    ("name", "place", "number"),
    [
        pytest.param(name, place, number, marks=[] if number == quick else [pytest.mark.slow])
        for (name, place), quick in zip(PLACES, itertools.cycle((1, 5)))
        for number in (1, 2, 5)
    ],
)
def test_a_run_after_ctrl_c_is_like_the_first(name: str, place: int, number: int) -> None:
    asked = requests(4)
    decoder, runners = METHODS[name]()
    for runner in runners:
        runner.allocate(1, 1)  # its check of the plain model is no pass of the run
    with ctrl_c_in_pass(runners[place], number), pytest.raises(KeyboardInterrupt):
        texts(decoder, asked)
    assert texts(decoder, asked) == undisturbed_texts(name)


TEXTS = [[5, 6, 7, 8, 9], [3, 1, 4, 1, 5, 9, 2, 6]]
OPERATIONS: dict[str, Callable[[ModelRunner], object]] = {
    "prefill": lambda runner: runner.prefill([0, 1], TEXTS),
    "extend": lambda runner: runner.extend([0, 1], TEXTS),
    "encode": lambda runner: runner.encode(TEXTS),
    "score_candidates": lambda runner: runner.score_candidates([0, 1], TEXTS, torch.tensor([[1, 2], [3, 4]])),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_rows_hold_no_token_whose_keys_were_not_computed(name: str) -> None:
    """Below every decoder, for all loops that have none: labels, servers beside a model here, analyses."""
    model = tiny_model("llama", 0)
    runner = ModelRunner(model)
    runner.allocate(2, 40)
    with torch.inference_mode():
        with ctrl_c_in_pass(runner, 1), pytest.raises(KeyboardInterrupt):
            OPERATIONS[name](runner)
        states = runner.prefill([0, 1], TEXTS).hidden
    for state, text in zip(states, TEXTS, strict=True):
        torch.testing.assert_close(state, hidden_after(model, text))


SHARED = [i * 5 % 90 for i in range(24)]
COPIES: dict[str, Callable[[ModelRunner], object]] = {
    "move": lambda runner: runner.move([(0, 1)]),
    "prefill": lambda runner: runner.prefill([1], [[*SHARED, 11, 12]]),
}


@pytest.mark.parametrize("name", COPIES)
def test_rows_that_are_overwritten_hold_no_token_meanwhile(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Ctrl-C after the slots were copied: the target row no longer has the text that it had."""
    model, first, second = tiny_model("llama", 0), [*SHARED, 7], [9, 9, 9, 9]
    runner = ModelRunner(model)
    runner.allocate(2, 40)
    copy = runner.cache.copy

    def copy_then_ctrl_c(source: Tensor, target: Tensor) -> None:
        copy(source, target)
        signal.raise_signal(signal.SIGINT)

    with torch.inference_mode():
        runner.prefill([0, 1], [first, second])
        with monkeypatch.context() as patch:
            patch.setattr(runner.cache, "copy", copy_then_ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                COPIES[name](runner)
        states = runner.prefill([0, 1], [first, [*second, 9]]).hidden
    torch.testing.assert_close(states[0], hidden_after(model, first))
    torch.testing.assert_close(states[1], hidden_after(model, [*second, 9]))


def test_a_run_that_is_dropped_leaves_the_next_one_alone() -> None:
    """A caller that takes the first text and no more closes its run, perhaps while another one decodes."""
    asked = requests(5)
    student = ModelRunner(tiny_model("qwen2", 0))
    decoder = Decoder(student, presets.greedy(), rows=2)
    expected = texts(decoder, asked)
    dropped, going_on = decoder.run(asked), Decoder(student, presets.greedy(), rows=2).run(asked)
    next(dropped)
    results = [next(going_on)]
    dropped.close()  # type: ignore[attr-defined]
    results += going_on
    assert outputs(sorted(results, key=lambda result: result.index)) == expected


class Interrupting(nn.Module):
    """A layer at which Ctrl-C arrives while layers are being replaced."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "forward":
            raise KeyboardInterrupt
        super().__setattr__(name, value)


def test_layers_are_restored_where_ctrl_c_comes_while_they_are_replaced() -> None:
    """Layers that stayed replaced would be left out of every later pass."""
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), Interrupting()])
    forms: Forms = [(layer, lambda layer, states: states) for layer in layers]
    for context in (
        LayerSplit(nn.ModuleList([nn.Identity(), *layers]), 1).only_below(),
        forms_enabled(forms),
    ):
        with pytest.raises(KeyboardInterrupt), context:
            pass
        assert not any("forward" in vars(layer) for layer in layers)
