"""A task's generation arguments: those that the engine supports, and a message for all others."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from lm_eval.models.utils import normalize_gen_kwargs

from s2t_eval.engine import Sampling
from s2t_eval.method_table import LENGTH_NAMES

WITHOUT_EFFECT = frozenset(
    """assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind
    bos_token_id cache_config cache_implementation compile_config continuous_batching_config
    decoder_start_token_id disable_compile early_stopping is_assistant length_penalty low_memory
    max_cache_len max_matching_ngram_size num_assistant_tokens num_assistant_tokens_schedule
    output_attentions output_hidden_states output_logits output_scores pad_token_id prefill_chunk_size
    remove_invalid_values renormalize_logits return_dict_in_generate return_legacy_cache
    spaces_between_special_tokens speculation_type synced_gpus target_lookbehind transformers_version
    use_cache use_model_defaults use_mtp""".split()
)
"""Arguments of transformers, and of servers that the same tasks are written for, without effect here at any
value: there are no beams and no padding, and the engine has its own cache layout."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "best_of": (1,),
    "constraints": ([],),
    "detokenize": (True,),
    "diversity_penalty": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "force_words_ids": ([],),
    "frequency_penalty": (0,),
    "guidance_scale": (1,),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "logit_bias": ({},),
    "logits_processor": ([],),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "min_p": (0,),
    "min_tokens": (0,),
    "n": (1,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "presence_penalty": (0,),
    "prompt_lookup_num_tokens": (0,),
    "repetition_penalty": (1,),
    "sequence_bias": ({}, []),
    "skip_special_tokens": (True,),
    "stop": ([], ""),
    "stop_strings": ([], ""),
    "stopping_criteria": ([],),
    "suppress_tokens": ([],),
    "token_healing": (False,),
    "typical_p": (1,),
    "use_beam_search": (False,),
}
"""Arguments without effect at these values, and at None."""


@dataclass(frozen=True)
class GenerationArguments:
    """The generation arguments of one request.

    Args:
        until: stop strings; a special token's name among them is a stop token.
        max_new_tokens: length limit.
        stop_ids: further stop tokens, from `stop_token_ids`.
        sampling: None takes the most likely token.
    """

    until: tuple[str, ...]
    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    sampling: Sampling | None = None


def read_generation_arguments(
    gen_kwargs: Mapping[str, Any], default_length: int, known_stop_ids: Set[int], vocab: int
) -> GenerationArguments:
    """Check and parse a task's `generation_kwargs`.

    Args:
        gen_kwargs: as the task has them.
        default_length: used without a length limit.
        known_stop_ids: tokens that end every text of this model; naming them again changes nothing.
        vocab: size of the vocabulary, the bound of stop tokens.

    Raises:
        ValueError: a value of the wrong kind, or an argument that would change the text.
    """
    if "until" in gen_kwargs:
        _require_texts(gen_kwargs["until"])
    # None always means "absent"; stock fails on None for some of them, and on tuples.
    options = {name: value for name, value in gen_kwargs.items() if value is not None}
    if isinstance(gen_kwargs.get("until"), tuple):
        options["until"] = list(gen_kwargs["until"])
    for name in LENGTH_NAMES:
        if name in options:
            options[name] = _whole_number(name, options[name])
    for name in ("temperature", "top_p"):
        if name in options:
            options[name] = _number(name, options[name])
    if not isinstance(options.get("do_sample", False), bool):
        raise ValueError(f"do_sample: expected true or false, got {options['do_sample']!r}")
    if options.get("do_sample") and "temperature" not in options:
        raise ValueError(
            "do_sample=true: expected a temperature with it, above 0 to sample, got none; give one, or "
            "do_sample=false"
        )
    options = dict(normalize_gen_kwargs(options, default_length))
    until, length = options.pop("until"), options.pop("max_gen_toks")
    stop_ids = _token_ids("stop_token_ids", options.pop("stop_token_ids", []), vocab)
    # A token that already ends every text has no effect; another one would replace the model's own.
    if _token_ids("eos_token_id", options.get("eos_token_id", []), vocab) <= known_stop_ids:
        options.pop("eos_token_id", None)
    sampling = _sampling(options)
    return GenerationArguments(tuple(until), length, stop_ids, sampling)


def _sampling(options: dict[str, Any]) -> Sampling | None:
    """The sampling parameters; refuses arguments that the engine does not support."""
    do_sample, temperature = options.pop("do_sample", False), options.pop("temperature", 0.0)
    top_p, top_k = options.pop("top_p", 1.0), _whole_number("top_k", options.pop("top_k", 0))
    for name, value in options.items():
        if name not in WITHOUT_EFFECT and not _is_neutral(name, value):
            raise ValueError(
                f"generation_kwargs: {name}={value} is not supported by the engine (supported are "
                "until, max_gen_toks, stop_token_ids, do_sample, temperature, top_p, top_k); leave it out, "
                "for the control too"
            )
    if not do_sample or temperature == 0.0:
        return None
    return Sampling(temperature, top_p, max(top_k, 0))


def _is_neutral(name: str, value: object) -> bool:
    return any(value == neutral for neutral in NEUTRAL.get(name, ()))


def _require_texts(value: object) -> None:
    """Raise `ValueError` unless `until` is a text or a list of texts."""
    values = value if isinstance(value, list | tuple) else [value]
    for one in values:
        if not isinstance(one, str):
            shown = "null (None)" if one is None else repr(one)
            raise ValueError(f"until: expected a text or a list of texts, got {shown}; [] stops at none")


def _whole_number(name: str, value: object) -> int:
    """A whole number, also from a text or from 32.0."""
    number = _number(name, value, "a whole number")
    if not number.is_integer():
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return int(number)


def _number(name: str, value: object, expected: str = "a number") -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{name}: expected {expected}, got {value!r}") from None
    if number != number or abs(number) == float("inf"):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return number


def _token_ids(name: str, value: object, vocab: int) -> frozenset[int]:
    """One token id or several."""
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    ids = frozenset(_whole_number(name, one) for one in values)
    for token in sorted(ids):
        if not 0 <= token < vocab:
            raise ValueError(f"{name}: expected ids of the model's {vocab} tokens, got {token}")
    return ids
