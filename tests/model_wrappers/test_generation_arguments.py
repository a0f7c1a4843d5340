"""Generation arguments: those without effect are accepted, stop tokens stop, the rest is one line."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig

from s2t_eval.engine import Sampling
from s2t_eval.model_wrappers.generation_arguments import (
    LENGTH_NAMES,
    NEUTRAL,
    WITHOUT_EFFECT,
    read_generation_arguments,
)
from s2t_eval.model_wrappers.greedy import Greedy
from tests.harness_helpers import STUDENT, counts, evaluate, generation, prompts, texts, tokenizer

FOLLOWED = {
    *LENGTH_NAMES,
    "until",
    "stop_token_ids",
    "eos_token_id",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
}


def read(**given: Any) -> Any:
    return read_generation_arguments(given, 256, frozenset({0, 7}), vocab=100)


@pytest.mark.parametrize(
    "given",
    [
        {"min_p": 0.0},
        {"presence_penalty": 0.0},
        {"frequency_penalty": 0},
        {"no_repeat_ngram_size": 0},
        {"encoder_no_repeat_ngram_size": 0},
        {"typical_p": 1},
        {"typical_p": 1.0},
        {"length_penalty": 1.0},
        {"length_penalty": 0.6},
        {"early_stopping": True},
        {"early_stopping": "never"},
        {"repetition_penalty": 1},
        {"diversity_penalty": 0.0},
        {"num_beams": 1, "num_beam_groups": 1},
        {"epsilon_cutoff": 0.0, "eta_cutoff": 0.0},
        {"guidance_scale": 1.0},
        {"penalty_alpha": 0.0},
        {"bad_words_ids": [], "suppress_tokens": [], "sequence_bias": {}},
        {"min_new_tokens": 0, "min_length": 0, "min_tokens": 0},
        {"pad_token_id": 0, "bos_token_id": 3},
        {"eos_token_id": 7},
        {"eos_token_id": [7, 0]},
        {"use_cache": False, "cache_implementation": "static"},
        {"n": 1, "best_of": 1, "ignore_eos": False, "logit_bias": {}},
        {"skip_special_tokens": True, "spaces_between_special_tokens": False},
        {"return_dict_in_generate": True, "output_scores": True},
        {"temperature": None, "top_p": None, "top_k": None, "do_sample": None, "max_gen_toks": None},
        {"watermarking_config": None, "stop_strings": None, "something_new": None},
    ],
    ids=str,
)
def test_arguments_that_change_nothing(given: dict[str, Any]) -> None:
    assert read(**given) == read()


def test_every_argument_of_transformers_is_known() -> None:
    """A penalty at its neutral value was refused; none may be missing, in a later transformers either."""
    names = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
    meaningful = {
        # At None alone these change nothing.
        "assistant_tokens", "dola_layers", "exponential_decay_length_penalty", "forced_bos_token_id",
        "forced_eos_token_id", "max_length", "max_time", "top_h", "watermarking_config",
    }  # fmt: skip
    assert names <= FOLLOWED | WITHOUT_EFFECT | NEUTRAL.keys() | meaningful
    assert not WITHOUT_EFFECT & NEUTRAL.keys()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"min_p": 0.1}, "min_p=0.1"),
        ({"presence_penalty": 0.5}, "presence_penalty=0.5"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size=3"),
        ({"typical_p": 0.9}, "typical_p=0.9"),
        ({"eos_token_id": 5}, "eos_token_id=5"),
        ({"eos_token_id": [0, 5]}, r"eos_token_id=\[0, 5\]"),
        ({"stop": ["x"]}, r"stop=\['x'\]"),
        ({"ignore_eos": True}, "ignore_eos=True"),
        ({"something_new": 0}, "something_new=0"),
        ({"max_length": 100}, "max_length=100"),
        ({"top_h": 0.5}, "top_h=0.5"),
    ],
    ids=str,
)
def test_arguments_that_would_change_the_text(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^generation_kwargs: {name} is not supported .*stop_token_ids"):
        read(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"until": None},
            r"until: expected a text or a list of texts, got null \(None\); \[\] stops at none",
        ),
        ({"until": 5}, r"until: expected a text or a list of texts, got 5; "),
        ({"until": ["a", None]}, r"until: expected a text or a list of texts, got null"),
        ({"until": ["a", 3.5]}, r"until: expected a text or a list of texts, got 3.5"),
        ({"until": {"a": 1}}, r"until: expected a text or a list of texts, got \{'a': 1\}"),
        ({"until": True}, r"until: expected .* got True"),
        ({"max_gen_toks": "abc"}, r"max_gen_toks: expected a whole number, got 'abc'"),
        ({"max_gen_toks": ""}, r"max_gen_toks: expected a whole number, got ''"),
        ({"max_gen_toks": 3.5}, r"max_gen_toks: expected a whole number, got 3.5"),
        ({"max_gen_toks": [3]}, r"max_gen_toks: expected a whole number, got \[3\]"),
        ({"max_gen_toks": True}, r"max_gen_toks: expected a whole number, got True"),
        ({"max_gen_toks": float("inf")}, r"max_gen_toks: expected a whole number, got inf"),
        ({"max_gen_toks": float("nan")}, r"max_gen_toks: expected a whole number, got nan"),
        ({"max_new_tokens": "abc"}, r"max_new_tokens: expected a whole number, got 'abc'"),
        ({"max_tokens": "abc"}, r"max_tokens: expected a whole number"),
        ({"temperature": "hot"}, r"temperature: expected a number, got 'hot'"),
        ({"temperature": float("nan")}, r"temperature: expected a number, got nan"),
        ({"top_p": [0.9]}, r"top_p: expected a number, got \[0.9\]"),
        ({"top_k": "many"}, r"top_k: expected a whole number, got 'many'"),
        ({"do_sample": "yes"}, r"do_sample: expected true or false, got 'yes'"),
        # It decoded greedily, eight equal texts for eight repeats.
        ({"do_sample": True}, r"do_sample=true: expected a temperature with it, above 0 to sample"),
        ({"stop_token_ids": "abc"}, r"stop_token_ids: expected a whole number, got 'abc'"),
        ({"stop_token_ids": [3, "x"]}, r"stop_token_ids: expected a whole number, got 'x'"),
        ({"stop_token_ids": 100}, r"stop_token_ids: expected ids of the model's 100 tokens, got 100"),
        ({"stop_token_ids": -1}, r"stop_token_ids: expected ids of the model's 100 tokens, got -1"),
    ],
    ids=str,
)
def test_values_of_the_wrong_kind(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message) as caught:
        read(**given)
    assert "\n" not in str(caught.value)


def test_what_is_read() -> None:
    found = read(
        until="x", max_tokens="12", stop_token_ids=[3, 4], do_sample=True, temperature="0.5", top_k=-1
    )
    assert found.until == ("x",)
    assert found.max_new_tokens == 12
    assert found.stop_ids == {3, 4}
    assert found.sampling == Sampling(0.5, 1.0, 0)
    assert read(max_gen_toks=32.0).max_new_tokens == 32
    assert read(stop_token_ids=5).stop_ids == read(stop_token_ids="5").stop_ids == {5}
    assert read(until=("a", "b")).until == ("a", "b")
    assert read().max_new_tokens == 256


@pytest.mark.parametrize("as_list", [True, False])
def test_stop_token_ids_stop(as_list: bool) -> None:
    """The token ends the text and is not part of it, as an end-of-text token."""
    lm = Greedy(STUDENT, batch_size=4)
    [plain] = lm.generate_until([generation(prompts(1)[0], until=[])])
    ids = tokenizer()(plain)["input_ids"]
    stop = next(token for i, token in enumerate(ids) if i > 3 and token not in ids[:i])
    asked = generation(prompts(1)[0], until=[], stop_token_ids=[stop] if as_list else stop)
    before = lm.telemetry.usage.tokens
    [found] = lm.generate_until([asked])
    assert found == tokenizer().decode(ids[: ids.index(stop)])
    assert lm.telemetry.usage.tokens - before == ids.index(stop) + 1


def test_from_the_harness() -> None:
    """As the command line hands them on; the message names task and document."""
    options = "min_p=0,presence_penalty=0.0,typical_p=1.0,no_repeat_ngram_size=0"
    assert texts(evaluate("greedy", limit=2, gen_kwargs=options)) == texts(evaluate("greedy", limit=2))
    for options, message in (
        ("max_gen_toks=abc", "max_gen_toks: expected a whole number, got 'abc'"),
        ("until=5", "until: expected a text or a list of texts, got 5"),
    ):
        with pytest.raises(ValueError, match=rf"^task s2t_arith, document 0: {message}"):
            evaluate("greedy", limit=1, gen_kwargs=options)
    with pytest.raises(ValueError, match=r"^task s2t_arith, document 0: until: expected .* got null"):
        evaluate("greedy", limit=1, gen_kwargs={"until": None})
    stopped = evaluate("greedy", limit=1, gen_kwargs={"stop_token_ids": list(range(len(tokenizer())))})
    assert counts(stopped)["tokens"] == 1
