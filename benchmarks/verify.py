"""S2T under the KL trigger against greedy decoding: a teacher in lockstep, and one that verifies in chunks.

python -m benchmarks.speed verify --batch 8                        # the embedded pair
python -m benchmarks.speed verify --student SMALL --teacher LARGE --data train.jsonl --batch 1
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.decoding import ClockedModel, Run, compare, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, Target, alternate
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import Decoder, Request
from s2t_eval.engine.chunk_schedule import Verify
from s2t_eval.selection.policy import greedy, s2t
from s2t_eval.selection.triggers import KlTrigger

NEW_TOKENS = 96
TAUS = (0.01, 0.05)
CHUNKS = (8, 32)
"""Lengths of chunks beside lockstep and `auto`."""
TARGETS = {(1, 0.01): Target(1.4), (1, 0.05): Target(1.6), (8, 0.01): Target(2.0), (8, 0.05): Target(2.0)}
"""Of `auto`, by batch and rate: with a teacher of three times the student's size."""
TO_LOCKSTEP = {32: Target(1.0)}
"""Of `auto` to lockstep, by batch: where chunks do not pay, it has to find that out."""


def measure(settings: Settings) -> list[Ratio]:
    """Seconds of decoding a token: S2T's to greedy's by rate and length of a chunk, and auto's to lockstep's.

    The thresholds are quantiles of the divergence over greedy's own texts of the same prompts, so that the
    rates that come out are near those that were wanted.
    """
    student, tokenizer = load_student(settings)
    # Its head is read at the student's tokens only, so its text vocabulary is the student's.
    teacher = ClockedModel(
        load_model(settings.teacher, settings), settings.teacher, student.text_vocab, settings.compile
    )
    requests = make_requests(
        settings, tokenizer, settings.requests or settings.batch, settings.new_tokens or NEW_TOKENS
    )
    taus = settings.taus or TAUS
    lengths: tuple[Verify, ...] = (1, *(settings.chunks or CHUNKS), "auto")
    thresholds = thresholds_of(settings, student, teacher, requests, taus)
    decoders = {"greedy": Decoder(student, greedy(), rows=settings.batch)}
    for tau, threshold in zip(taus, thresholds, strict=True):
        for length in lengths:
            policy = s2t(KlTrigger(), threshold)
            decoders[_side(tau, length)] = Decoder(student, policy, teacher, settings.batch, verify=length)
    for decoder in decoders.values():
        warm_up(decoder, requests[:1])
    sides = {name: partial(decode, decoder, requests) for name, decoder in decoders.items()}
    runs = alternate(sides, settings.repeats)
    to_greedy = [
        _ratio(settings, tau, length, runs[_side(tau, length)], runs["greedy"])
        for tau in taus
        for length in lengths
    ]
    to_lockstep = [
        compare(
            f"s2t, kl, tau {tau}, verify=auto, to lockstep, batch {settings.batch}",
            runs[_side(tau, "auto")],
            runs[_side(tau, 1)],
            TO_LOCKSTEP.get(settings.batch),
        )
        for tau in taus
    ]
    return [*to_greedy, *to_lockstep]


def _ratio(settings: Settings, tau: float, length: Verify, runs: Sequence[Run], base: Sequence[Run]) -> Ratio:
    """One side against greedy, with what it discarded."""
    name = "lockstep" if length == 1 else f"verify={length}"
    return compare(
        f"s2t, kl, tau {tau}, {name}, to greedy, batch {settings.batch}",
        runs,
        base,
        TARGETS.get((settings.batch, tau)) if length == "auto" else None,
        discarded_per_token=[run.discarded / run.tokens for run in runs],
        tokens_per_teacher_pass=[run.tokens / run.teacher_calls for run in runs],
        teacher_tokens=[run.teacher_tokens for run in runs],
    )


def _side(tau: float, length: Verify) -> str:
    return f"{tau} {length}"


def thresholds_of(
    settings: Settings,
    student: ClockedModel,
    teacher: ClockedModel,
    requests: Sequence[Request],
    taus: Sequence[float],
) -> list[float]:
    """The threshold of each rate: a quantile of the divergence over all steps of greedy's texts."""
    observing = Decoder(student, greedy(), teacher, settings.batch, observe=[KlTrigger()], verify="auto")
    values = [value for result in observing.run(requests) for value in result.observed[0]]
    quantiles: list[float] = torch.tensor(values).quantile(1 - torch.tensor(taus)).tolist()
    return quantiles
