"""The engine's greedy text is transformers' own, whatever the batch."""

from __future__ import annotations

import logging
import random

import pytest
import torch
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, Finish, ModelRunner, NonFiniteLogitsError, Request, Sampling
from s2t_eval.engine.prefix_cache import MIN_SHARED
from s2t_eval.selection.policy import greedy
from tests.twins import VOCAB, WINDOW, decode, generate_greedy, outputs, requests, tiny_model


def test_greedy_is_generate(student: PreTrainedModel) -> None:
    asked = requests()
    expected = [generate_greedy(student, request) for request in asked]
    assert outputs(decode(student, greedy(), asked)) == expected


def test_batch_size_and_refilling_change_no_text(student: PreTrainedModel) -> None:
    asked = requests()
    one_by_one = [outputs(decode(student, greedy(), [request]))[0] for request in asked]
    for rows in (1, 3, 10):
        assert outputs(decode(student, greedy(), asked, rows=rows)) == one_by_one


def test_order_changes_no_text(student: PreTrainedModel) -> None:
    asked = requests()
    order = list(range(len(asked)))
    random.Random(3).shuffle(order)
    expected = outputs(decode(student, greedy(), asked))
    shuffled = outputs(decode(student, greedy(), [asked[i] for i in order]))
    assert shuffled == [expected[i] for i in order]


def test_text_longer_than_its_window() -> None:
    model = tiny_model("gemma3", seed=0)
    request = Request(tuple(range(3 * WINDOW)), 4 * WINDOW)
    [result] = decode(model, greedy(), [request])
    assert len(result.output_ids) == 4 * WINDOW
    assert result.output_ids == generate_greedy(model, request)


def test_shared_beginnings_are_computed_once_and_change_nothing(student: PreTrainedModel) -> None:
    shared = tuple(i % VOCAB for i in range(3, 3 + 2 * MIN_SHARED))
    asked = [Request((*shared, i, i + 1), 9) for i in range(8)]
    expected = [generate_greedy(student, request) for request in asked]
    results = decode(student, greedy(), asked, rows=4)
    assert outputs(results) == expected
    computed = sum(result.usage.prefill_tokens for result in results)
    assert computed == len(shared) + 2 * len(asked)


def test_samples_of_a_prompt_share_its_prefill_even_one_by_one(student: PreTrainedModel) -> None:
    prompt = tuple(range(40))
    asked = [Request(prompt, 7, sampling=Sampling(), seed=seed) for seed in range(8)]
    for rows in (1, 3, 8):
        results = decode(student, greedy(), asked, rows=rows)
        assert sum(result.usage.prefill_tokens for result in results) == len(prompt) + 7


def test_every_token_costs_its_row_one_forward(student: PreTrainedModel) -> None:
    for result in decode(student, greedy(), requests()):
        assert result.usage.forwards == result.usage.tokens == len(result.output_ids)


def test_stop_ids_end_a_text(student: PreTrainedModel) -> None:
    free = outputs(decode(student, greedy(), requests()))
    stops = frozenset({free[1][3], free[4][2]})
    asked = requests(stop_ids=stops)
    results = decode(student, greedy(), asked)
    assert outputs(results) == [generate_greedy(student, request) for request in asked]
    ended = results[1]
    assert ended.finish is Finish.STOP_ID
    assert ended.text_ids == ended.output_ids[:-1]


def letters(ids: object) -> str:
    """Each token is three letters, so stop strings of other lengths span tokens."""
    return "".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}." for i in ids)  # type: ignore[attr-defined]


def test_stop_strings_may_span_tokens(student: PreTrainedModel) -> None:
    [free] = decode(student, greedy(), [Request((5, 6, 7), 20)])
    text = letters(free.output_ids)
    stop = text[10:20]  # begins inside the fourth token and ends inside the seventh
    [result] = decode(student, greedy(), [Request((5, 6, 7), 20, stop_strings=(stop,))], decode=letters)
    first = next(n for n in range(1, 21) if stop in letters(free.output_ids[:n]))
    assert result.output_ids == free.output_ids[:first]
    assert result.finish is Finish.STOP_STRING


def test_stop_strings_are_each_request_s_own(student: PreTrainedModel) -> None:
    [free] = decode(student, greedy(), [Request((5, 6, 7), 20)])
    stop = letters(free.output_ids[4:5])
    asked = [Request((5, 6, 7), 20, stop_strings=(stop,)), Request((5, 6, 7), 20)]
    stopped, running = decode(student, greedy(), asked, decode=letters)
    assert len(stopped.output_ids) <= 5
    assert running.output_ids == free.output_ids


def test_stop_strings_need_a_way_to_decode(student: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="stop_strings: the decoder was built without"):
        decode(student, greedy(), [Request((1,), 3, stop_strings=("x",))])


def test_text_vocabulary_bounds_what_is_said() -> None:
    model = tiny_model("qwen2", seed=0)
    decoder = Decoder(ModelRunner(model, text_vocab=50), greedy())
    said = {token for result in decoder.run(requests()) for token in result.output_ids}
    free = {token for ids in outputs(decode(model, greedy(), requests())) for token in ids}
    assert max(said) < 50 <= max(free)


def test_memory_running_out_halves_the_rows_and_changes_no_text(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama", seed=0)
    asked = requests(8)
    expected = outputs(decode(model, greedy(), asked, rows=8))
    append = ModelRunner.append

    def append_if_it_fits(self: ModelRunner, tokens: list[int], ids: torch.Tensor | None) -> torch.Tensor:
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return append(self, tokens, ids)

    monkeypatch.setattr(ModelRunner, "append", append_if_it_fits)
    with caplog.at_level(logging.WARNING):
        assert outputs(decode(model, greedy(), asked, rows=8)) == expected
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: continuing with 4 rows at once",
        "out of memory: continuing with 2 rows at once",
    ]


def test_memory_that_does_not_hold_one_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_fits(self: ModelRunner, tokens: list[int], ids: torch.Tensor | None) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(ModelRunner, "append", never_fits)
    with pytest.raises(torch.OutOfMemoryError):
        decode(tiny_model("llama", seed=0), greedy(), requests(), rows=4)


def test_nan_logits_name_model_and_step() -> None:
    model = tiny_model("qwen2", seed=0)
    slots = ModelRunner(model, "damaged")
    decoder = Decoder(slots, greedy())
    run = decoder.run([Request((1, 2, 3), 9)])
    slots.allocate(1, 1)  # the check of the forward happens before the damage
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    with pytest.raises(NonFiniteLogitsError, match=r"damaged: logits are not finite at step 0 of"):
        list(run)


def test_a_decoder_can_be_used_again_after_an_error_and_after_being_left() -> None:
    model = tiny_model("qwen2", seed=0)
    decoder = Decoder(ModelRunner(model), greedy(), rows=4)
    expected = outputs(decode(model, greedy(), requests()))
    next(decoder.run(requests()))  # left in the middle
    results = {result.index: result.output_ids for result in decoder.run(requests())}
    assert [results[i] for i in range(len(expected))] == expected


def test_no_request_gives_no_result() -> None:
    assert list(Decoder(ModelRunner(tiny_model("qwen2", seed=0)), greedy()).run([])) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_ids": (), "max_new_tokens": 3}, "at least one token, got an empty prompt; put a text"),
        ({"prompt_ids": (1,), "max_new_tokens": 0}, "max_gen_toks: expected at least 1, got 0"),
    ],
)
def test_impossible_requests(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(**options)  # type: ignore[arg-type]
