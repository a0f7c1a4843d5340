"""Bodies and answers of vLLM's `POST /inference/v1/generate`, as pure functions of token ids.

Every answer is checked for its shape before it is used; `AnswerError` marks one that is not as expected, such
as a list of the wrong length.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

GENERATE = "/inference/v1/generate"
SUPPORT = 64
"""Tokens of a student's distribution that a step is decided by: the support of the KL trigger."""
MAX_IDS = 128
"""Most token ids whose log-probabilities one request can name."""
NO_PROBABILITY = -9999.0
"""How a server writes a log-probability of minus infinity, and in some answers one that is no number."""


class AnswerError(Exception):
    """An answer without the expected content."""


class NotFiniteError(AnswerError):
    """Log-probabilities that are no numbers."""

    def __init__(self) -> None:
        super().__init__(
            "log-probabilities that are not finite; the served model's weights may be damaged, or its "
            "--dtype too narrow (try float32)"
        )


class ServerUsage(NamedTuple):
    """What one request cost its server, in tokens."""

    prompt: int
    cached: int
    """of the prompt, read from the prefix cache"""
    generated: int

    @property
    def computed(self) -> int:
        """Tokens of the prompt that were computed."""
        return self.prompt - self.cached


class DraftedStep(NamedTuple):
    """One step of the student."""

    token: int
    """the token that the server went on with"""
    ids: list[int]
    """the most likely tokens of the text vocabulary, most likely first; empty where none was returned"""
    log_probs: list[float]
    """of `ids`, over the whole vocabulary"""
    divergence: float | None = None
    """of the trigger, where a student of this process has computed it"""


class Drafted(NamedTuple):
    """A chunk of the student's greedy text."""

    steps: list[DraftedStep]
    usage: ServerUsage


class Scored(NamedTuple):
    """The teacher at one step."""

    log_probs: list[float]
    """of the ids that were named, in their order"""
    token: int
    """the server's own argmax token, of the whole vocabulary"""
    usage: ServerUsage


class Rows(NamedTuple):
    """The teacher at every step of a chunk."""

    log_probs: Tensor | None
    """float32 [steps, ids]; minus infinity where a step named fewer ids. None where the server's cache
    reached into the chunk, whose other tokens it then computed for nothing"""
    usage: ServerUsage


# ---------------------------------------------------------------- bodies


def draft_body(ids: Sequence[int], limit: int, stop_ids: Sequence[int], num_top: int) -> dict[str, Any]:
    """Greedy continuation of `ids` by at most `limit` tokens, each with its `num_top` most likely tokens."""
    sampling = _greedy(limit) | {"logprobs": num_top, "ignore_eos": True, "stop_token_ids": list(stop_ids)}
    return _body(ids, sampling)


def score_body(ids: Sequence[int], scored: Sequence[int]) -> dict[str, Any]:
    """Log-probabilities of the tokens `scored` after `ids`, at most `MAX_IDS` - 1 of them.

    The server lists its own token first and cuts the list at `logprobs`: without one further entry the last
    token would be lost.
    """
    named = [*scored, scored[0]]
    return _body(ids, _greedy(1) | {"logprobs": len(named), "logprob_token_ids": named})


def rows_body(
    prompt: Sequence[int], drafted: Sequence[int], scored: Sequence[Sequence[int]], reads_cache: bool
) -> dict[str, Any]:
    """Log-probabilities of the tokens `scored[i]` at the step of `drafted[i]`, for a whole chunk."""
    sampling = _greedy(1) | {
        "prompt_logprob_token_ids": [list(ids) for ids in scored],
        "prompt_logprob_start": len(prompt) - 1,
        "skip_reading_prefix_cache": not reads_cache,
    }
    return _body([*prompt, *drafted], sampling)


def _greedy(limit: int) -> dict[str, Any]:
    return {"temperature": 0, "max_tokens": limit, "detokenize": False}


def _body(ids: Sequence[int], sampling: Mapping[str, Any]) -> dict[str, Any]:
    return {"token_ids": list(ids), "stream": False, "sampling_params": dict(sampling)}


# ---------------------------------------------------------------- answers


def read_draft(answer: Any, limit: int, text_vocab: int, num_top: int) -> Drafted:
    """The steps of a chunk of at most `limit` tokens, each with its `num_top` most likely tokens.

    vLLM's first model runner loses them at every step that it computes in one batch with a request for named
    tokens (`score_body`), of whatever client: steps from the first such one on are left out. Requests of one
    run are kept apart (`gates.py`).

    Raises:
        AnswerError: no token, too many, or steps without their log-probabilities.
        NotFiniteError: the server's own token has no probability.
    """
    choice = _choice(answer)
    tokens, content = _list(choice, "token_ids"), _content(choice)
    if not 0 < len(tokens) <= limit or len(content) != len(tokens):
        raise AnswerError(
            f"expected 1 to {limit} tokens with as many steps, got {len(tokens)} and {len(content)}"
        )
    steps: list[DraftedStep] = []
    for token, entry in zip(tokens, content, strict=True):
        step, num_listed = _step(int(token), entry, text_vocab)
        if num_listed < num_top:
            break
        steps.append(step)
    if not steps:
        raise AnswerError(
            f"expected the {num_top} most likely tokens of a step, got {num_listed}; requests with "
            "logprob_token_ids of another client at this server may be the reason"
        )
    return Drafted(steps, read_usage(answer))


def _step(token: int, entry: Any, text_vocab: int) -> tuple[DraftedStep, int]:
    """The most likely tokens of a step, and how many are listed: greedy's first, then by probability and id.

    Rows that pad the vocabulary are no text, also where the server went on with one. Tokens without
    probability are no part of the number. This is most of the client's own work, so it is written for speed.
    """
    values = _top_log_probs(entry)
    if token not in values:
        values[token] = entry.get("logprob")
    num_listed = len(values)
    if not _are_log_probs(values.values()):
        _require_finite(entry)
        values = {id_: _log_prob(value) for id_, value in values.items()}
        num_listed = sum(value > -math.inf for value in values.values())
    ranked = sorted([(-value, id_) for id_, value in values.items() if id_ < text_vocab])
    if ranked and ranked[0][1] != token and token < text_vocab:
        first = (-values[token], token)
        ranked.remove(first)
        ranked.insert(0, first)
    return DraftedStep(token, [id_ for _, id_ in ranked], [-value for value, _ in ranked]), num_listed


def _require_finite(entry: Any) -> None:
    """Raise `NotFiniteError` where the token that the server itself took has no probability.

    Every distribution has a largest one, so the model's output was no number there: the endpoint writes NaN
    as it writes minus infinity.
    """
    value = _mapping(entry).get("logprob")
    if value is not None and _log_prob(value) == -math.inf:
        raise NotFiniteError


def _top_log_probs(entry: Any) -> dict[int, Any]:
    """Token id -> log-probability as a server wrote it, of the listed tokens of a step."""
    try:
        return {top["token_id"]: top["logprob"] for top in _list(entry, "top_logprobs")}
    except (KeyError, TypeError) as error:
        raise AnswerError(f"expected token_id and logprob of each token, got none named {error}") from error


def _are_log_probs(values: Collection[Any]) -> bool:
    """Whether all are numbers above `NO_PROBABILITY`, by two passes at the speed of C."""
    try:
        return not math.isnan(sum(values)) and min(values) > NO_PROBABILITY
    except TypeError:
        return False


def read_scores(answer: Any, scored: Sequence[int]) -> Scored:
    """The log-probabilities of the tokens `scored`.

    Raises:
        AnswerError: one of them is missing.
        NotFiniteError: the server's own token has no probability.
    """
    choice = _choice(answer)
    tokens, content = _list(choice, "token_ids"), _content(choice)
    if len(tokens) != 1 or len(content) != 1:
        raise AnswerError(f"expected 1 token with its step, got {len(tokens)} and {len(content)}")
    _require_finite(content[0])
    values = {id_: _log_prob(value) for id_, value in _top_log_probs(content[0]).items()}
    missing = [id_ for id_ in scored if id_ not in values]
    if missing:
        raise AnswerError(f"no log-probability of the tokens {missing}")
    return Scored([values[id_] for id_ in scored], int(tokens[0]), read_usage(answer))


def read_rows(answer: Any, scored: Sequence[Sequence[int]]) -> Rows:
    """The log-probabilities of a chunk, if the answer contains them, and what it cost.

    Raises:
        AnswerError: an array of another shape, or no token counts.
        NotFiniteError: one of them is no number.
    """
    encoded = _mapping(answer).get("prompt_token_id_logprobs")
    usage = read_usage(answer)
    return Rows(None if encoded is None else _read_array(encoded, scored), usage)


def _read_array(encoded: Any, scored: Sequence[Sequence[int]]) -> Tensor:
    """The log-probabilities of a chunk, float32 [steps, ids]."""
    try:
        array = np.load(io.BytesIO(base64.b64decode(encoded, validate=True)), allow_pickle=False)
    except (ValueError, TypeError, binascii.Error, EOFError, OSError) as error:
        raise AnswerError(f"prompt_token_id_logprobs is no array: {error}") from error
    shape = (len(scored), max(map(len, scored)))
    if array.shape != shape or array.dtype != np.float32:
        raise AnswerError(f"expected float32 {shape}, got {array.dtype} {array.shape}")
    log_probs = torch.from_numpy(array.copy())
    # Minus infinity is the logarithm of 0, and fills up the steps with fewer ids.
    if bool((log_probs.isnan() | (log_probs == math.inf)).any()):
        raise NotFiniteError
    return log_probs.masked_fill(log_probs <= NO_PROBABILITY, -math.inf)


def read_usage(answer: Any) -> ServerUsage:
    """The token counts of an answer; a server without `--enable-prompt-tokens-details` reports no cache."""
    usage = _mapping(_mapping(answer).get("usage"))
    details = usage.get("prompt_tokens_details") or {}
    counts = (usage.get("prompt_tokens"), details.get("cached_tokens") or 0, usage.get("completion_tokens"))
    if not all(isinstance(count, int) for count in counts):
        raise AnswerError(f"expected token counts in usage, got {usage}")
    return ServerUsage(*counts)  # type: ignore[arg-type]


def _choice(answer: Any) -> Mapping[str, Any]:
    choices = _list(_mapping(answer), "choices")
    if len(choices) != 1:
        raise AnswerError(f"expected 1 choice, got {len(choices)}")
    return _mapping(choices[0])


def _content(choice: Mapping[str, Any]) -> list[Any]:
    return _list(_mapping(choice.get("logprobs")), "content")


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise AnswerError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _list(value: Any, name: str) -> list[Any]:
    items = _mapping(value).get(name)
    if not isinstance(items, list):
        raise AnswerError(f"expected a list {name}, got {type(items).__name__}")
    return items


def _log_prob(value: Any) -> float:
    if not isinstance(value, int | float):
        raise AnswerError(f"expected a log-probability, got {value!r}")
    if math.isnan(value):
        raise NotFiniteError
    return -math.inf if value <= NO_PROBABILITY else float(value)
