"""Prompts with a long shared prefix: computed once, relative to computing it for every prompt."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

from benchmarks.decoding import Run, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, alternate, divide
from benchmarks.workload import Settings
from s2t_eval.engine import Decoder, Request, prefix_cache
from s2t_eval.selection.policy import greedy

NEW_TOKENS = 32
SHOTS = 8


def measure(settings: Settings) -> list[Ratio]:
    """Return the speed-up of a whole run; there are two waves of requests, so that slots are refilled."""
    student, tokenizer = load_student(settings)
    num = settings.requests or 2 * settings.batch
    new_tokens = settings.new_tokens or NEW_TOKENS
    requests = make_requests(settings, tokenizer, num, new_tokens, SHOTS)
    decoder = Decoder(student, greedy(), rows=settings.batch)
    warm_up(decoder, requests[:2])
    sides = {
        "shared": partial(decode, decoder, requests),
        "apart": partial(_decode_apart, decoder, requests),
    }
    runs = alternate(sides, settings.repeats)
    shared, apart = runs["shared"], runs["apart"]
    details = {
        "prefill_tokens": {name: side_runs[0].prefill_tokens for name, side_runs in runs.items()},
        "seconds": {name: [run.seconds for run in side_runs] for name, side_runs in runs.items()},
        "shots": SHOTS,
        "new_tokens": new_tokens,
        "requests": num,
    }
    faster = divide([run.seconds for run in apart], [run.seconds for run in shared])
    cpu = divide([run.cpu for run in apart], [run.cpu for run in shared])
    name = f"shared prefix, times faster, batch {settings.batch}"
    return [Ratio(name, faster, None, details, cpu)]


def _decode_apart(decoder: Decoder, requests: list[Request]) -> Run:
    with patch.object(prefix_cache, "common_prefix", return_value=0):
        return decode(decoder, requests)
