"""Lockstep decoding of student and teacher, relative to both decoding alone."""

from __future__ import annotations

from functools import partial

from benchmarks.decoding import (
    ClockedModel,
    Run,
    compare,
    decode,
    load_student,
    make_requests,
    warm_up,
)
from benchmarks.ratios import Ratio, Target, alternate, divide
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import Decoder
from s2t_eval.selection.policy import greedy
from s2t_eval.selection.triggers import KlTrigger

NEW_TOKENS = 64
TARGET = Target(1.05)


def measure(settings: Settings) -> list[Ratio]:
    """Return the ratio of lockstep with the KL trigger at every step to the sum of both alone.

    The teacher alone decodes its own texts with equally many tokens for the same prompts; its forward
    passes cost the same as on the student's texts.
    """
    student, tokenizer = load_student(settings)
    # The teacher's head is evaluated only at the student's top tokens, so it gets the student's vocabulary.
    model = load_model(settings.teacher, settings)
    teacher = ClockedModel(model, settings.teacher, student.text_vocab)
    new_tokens = settings.new_tokens or NEW_TOKENS
    requests = make_requests(settings, tokenizer, settings.batch, new_tokens)
    decoders = {
        "lockstep": Decoder(student, greedy(), teacher, settings.batch, observe=[KlTrigger()]),
        "student": Decoder(student, greedy(), rows=settings.batch),
        "teacher": Decoder(teacher, greedy(), rows=settings.batch),
    }
    for decoder in decoders.values():
        warm_up(decoder, requests)
    sides = {name: partial(decode, decoder, requests) for name, decoder in decoders.items()}
    runs = alternate(sides, settings.repeats)
    alone = [_sum(a, b) for a, b in zip(runs["student"], runs["teacher"], strict=True)]
    share = divide([r.decode_seconds for r in runs["teacher"]], [r.decode_seconds for r in alone])
    name = f"lockstep, batch {settings.batch}"
    return [compare(name, runs["lockstep"], alone, TARGET, teacher_share=share)]


def _sum(student: Run, teacher: Run) -> Run:
    """The sum of both runs; the tokens are counted once."""
    assert student.tokens == teacher.tokens
    return Run(
        tokens=student.tokens,
        forwards=student.forwards + teacher.forwards,
        triggers=0,
        prefill_tokens=student.prefill_tokens + teacher.prefill_tokens,
        seconds=student.seconds + teacher.seconds,
        cpu=student.cpu + teacher.cpu,
        decode_seconds=student.decode_seconds + teacher.decode_seconds,
        decode_cpu=student.decode_cpu + teacher.decode_cpu,
    )
