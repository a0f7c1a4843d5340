"""Greedy decoding with compiled layers relative to plain ones (`compile=auto`): seconds a token."""

from __future__ import annotations

from functools import partial

from benchmarks.decoding import ClockedModel, compare, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, alternate
from benchmarks.workload import Settings
from s2t_eval.engine import Decoder
from s2t_eval.selection.policy import greedy

NEW_TOKENS = 96


def measure(settings: Settings) -> list[Ratio]:
    """Return the ratio of one batch size. The time that compiling takes is not part of it."""
    plain, tokenizer = load_student(settings)
    compiled = ClockedModel(plain.base, settings.student, plain.text_vocab, compile="always")
    requests = make_requests(
        settings, tokenizer, settings.requests or settings.batch, settings.new_tokens or NEW_TOKENS
    )
    decoders = {
        name: Decoder(runner, greedy(), rows=settings.batch)
        for name, runner in (("plain", plain), ("compiled", compiled))
    }
    for decoder in decoders.values():
        warm_up(decoder, requests)
    sides = {name: partial(decode, decoder, requests) for name, decoder in decoders.items()}
    runs = alternate(sides, settings.repeats)
    return [
        compare(f"greedy, compiled to plain, batch {settings.batch}", runs["compiled"], runs["plain"], None)
    ]
