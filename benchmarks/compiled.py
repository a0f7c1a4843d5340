"""Greedy decoding with `compile=auto` or `compile=always` relative to `compile=never`: seconds a token."""

from __future__ import annotations

from functools import partial

from benchmarks.decoding import ClockedModel, compare, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, alternate
from benchmarks.workload import Settings
from s2t_eval.engine import Decoder
from s2t_eval.selection.policy import greedy

NEW_TOKENS = 96


def measure(settings: Settings) -> list[Ratio]:
    """Return the ratio of one batch size. The time of recording and compiling is not part of it."""
    student, tokenizer = load_student(settings)
    plain = ClockedModel(student.base, settings.student, student.text_vocab)
    requests = make_requests(
        settings, tokenizer, settings.requests or settings.batch, settings.new_tokens or NEW_TOKENS
    )
    decoders: dict[str, Decoder] = {
        name: Decoder(runner, greedy(), rows=settings.batch)
        for name, runner in ((settings.compile, student), ("never", plain))
    }
    for decoder in decoders.values():
        warm_up(decoder, requests)
        decode(decoder, requests)  # every shape of a step once
    sides = {name: partial(decode, decoder, requests) for name, decoder in decoders.items()}
    runs = alternate(sides, settings.repeats)
    name = f"greedy, compile={settings.compile}, to never, batch {settings.batch}"
    return [compare(name, runs[settings.compile], runs["never"], None)]
