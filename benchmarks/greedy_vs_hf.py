"""Tokens per second of the backend `greedy` relative to stock `hf`, measured through `generate_until`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from benchmarks.ratios import Ratio, Stopwatch, Target, alternate, divide
from benchmarks.workload import Settings, load_model, load_prompts, load_tokenizer
from s2t_eval.model_wrappers.greedy import Greedy

NEW_TOKENS = 96
TARGET = Target(1.3, is_floor=True)
NEVER_SAID = "\ue000\ue001"
"""Two characters of the private use area, which no model generates."""


class EndlessHF(HFLM):
    """Stock `hf` without effective stop rules: its stop criterion is evaluated but never matches."""

    def _model_generate(
        self, context: Any, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> Any:
        never = [NEVER_SAID] * len(stop)
        ids = super()._model_generate(context, max_length, never, **generation_kwargs)
        assert ids.shape[1] == max_length
        return ids


@dataclass(frozen=True)
class Answers:
    """Texts of one measured run, and its duration."""

    texts: list[str]
    tokens: int
    seconds: float
    cpu: float


def measure(settings: Settings) -> list[Ratio]:
    """Return the ratio of tokens per second to stock `hf`: one model in memory, alternating runs."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tokenizer = load_tokenizer(settings)
    greedy, stock = load_backends(settings, tokenizer)
    num, limit = settings.requests or 2 * settings.batch, settings.new_tokens or NEW_TOKENS
    requests = make_instances(settings, load_prompts(settings, tokenizer, num), limit)
    for lm in (greedy, stock):
        lm.generate_until(make_instances(settings, load_prompts(settings, tokenizer, 2), 2), True)
    count = partial(_count, tokenizer, num * limit if is_endless(settings) else None)
    sides = {
        "greedy": lambda: answer(greedy, requests, count),
        "hf": lambda: answer(stock, requests, count),
    }
    runs = alternate(sides, settings.repeats)
    name = f"greedy to hf, tokens/s, batch {settings.batch}, {num} requests, "
    name += "fixed length" if is_endless(settings) else "natural length"
    speeds = {side: [run.tokens / run.seconds for run in side_runs] for side, side_runs in runs.items()}
    details = {
        "tokens_per_second": speeds,
        "tokens": {side: side_runs[0].tokens for side, side_runs in runs.items()},
        "equal_texts": equal_share(runs["greedy"][0].texts, runs["hf"][0].texts),
        "max_gen_toks": limit,
        "attention": stock.model.config._attn_implementation,
    }
    cpu = {side: [run.tokens / run.cpu for run in side_runs] for side, side_runs in runs.items()}
    ratios, in_cpu = (divide(speed["greedy"], speed["hf"]) for speed in (speeds, cpu))
    return [Ratio(name, ratios, TARGET, details, in_cpu)]


def load_backends(settings: Settings, tokenizer: Any) -> tuple[Greedy, HFLM]:
    """Both backends with one model, without the repetition penalty of a checkpoint's defaults."""
    model = load_model(settings.student, settings)
    assert model.generation_config is not None
    model.generation_config.repetition_penalty = None
    if is_endless(settings):
        model.generation_config.eos_token_id = None
    greedy = Greedy(model, tokenizer=tokenizer, batch_size=settings.batch, compile=settings.compile)
    stock_class = EndlessHF if is_endless(settings) else HFLM
    stock = stock_class(model, tokenizer=tokenizer, batch_size=settings.batch)
    if is_endless(settings):
        greedy.stop_ids = frozenset()
    return greedy, stock


def is_endless(settings: Settings) -> bool:
    """Whether texts have a fixed length: random weights never generate a stop token."""
    return settings.fixed_length or settings.is_random


def make_instances(settings: Settings, prompts: Sequence[str], limit: int) -> list[Instance]:
    """Create the harness's requests; problems of s2t_arith have that task's stop strings."""
    until = [] if settings.data or is_endless(settings) else ["\n\n", "Question:"]
    options = {"until": until, "do_sample": False, "max_gen_toks": limit}
    return [
        Instance("generate_until", {}, (prompt, dict(options)), 0, ("benchmark", i, 1))
        for i, prompt in enumerate(prompts)
    ]


def answer(lm: HFLM, requests: list[Instance], count: Callable[[list[str]], int]) -> Answers:
    """Measure one run, after emptying the prefix cache of the backend."""
    if isinstance(lm, Greedy):
        lm.student.forget()
    watch = Stopwatch()
    with watch.running():
        texts = lm.generate_until(requests, disable_tqdm=True)
    return Answers(texts, count(texts), watch.wall, watch.cpu)


def _count(tokenizer: Any, fixed: int | None, texts: list[str]) -> int:
    """Count the tokens of the texts in the same way for both backends."""
    if fixed is not None:
        return fixed
    return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)


def equal_share(texts: Sequence[str], stock_texts: Sequence[str]) -> float:
    """Fraction of requests for which both backends generated the same text."""
    return sum(a == b for a, b in zip(texts, stock_texts, strict=True)) / len(texts)
