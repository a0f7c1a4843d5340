"""How long chunks are, on simulated machines: times are given, none is measured."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from s2t_eval.engine.chunk_schedule import (
    FIRST_LENGTHS,
    AdaptiveChunks,
    ChunkSchedule,
    CostCurve,
    CutRates,
    FixedChunks,
    Outcome,
)
from s2t_eval.engine.drafts import Chunk, Draft
from s2t_eval.selection.top_tokens import TopTokens

Cost = Callable[[int], float]
"""Tokens of a pass -> seconds."""

NOTHING = torch.empty(0)


def draft(entropy: float | None, is_cut: bool = False) -> Draft:
    """A step with this entropy; its token is 1 where the teacher will pick another."""
    return Draft(int(is_cut), 0, NOTHING, TopTokens(NOTHING, NOTHING), entropy, {})


class Machine:
    """Rows that are always at work; an unsure step (2 nats) is cut far more often than a sure one.

    Args:
        schedule: under test.
        rows: at work, never fewer.
        student: seconds of its step by rows.
        teacher: seconds of its pass by tokens.
        cuts: rates of cuts of sure and unsure steps.
        unsure: share of unsure steps.
        can_fire: whether any step can be cut at all.
        texts: bounds of the texts' lengths in tokens; a row begins its next one at once. None: without end.
        seed: of the steps' entropies and cuts, and of the lengths.
    """

    def __init__(
        self,
        schedule: ChunkSchedule,
        rows: int,
        student: Cost,
        teacher: Cost,
        cuts: tuple[float, float] = (0.001, 0.3),
        unsure: float = 0.03,
        can_fire: bool = True,
        texts: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.schedule, self.student, self.teacher = schedule, student, teacher
        self.cuts, self.unsure, self.can_fire = cuts, unsure, can_fire
        self.chunks = [Chunk() for _ in range(rows)]
        self.numbers = random.Random(seed)
        self.texts = texts
        self.left = [self._text_length() for _ in range(rows)]
        self.seconds, self.tokens = 0.0, 0
        self.lengths: list[float] = []

    def _text_length(self) -> float:
        return self.numbers.randint(*self.texts) if self.texts else math.inf

    def round(self) -> None:
        for chunk, left in zip(self.chunks, self.left, strict=True):
            is_unsure = self.numbers.random() < self.unsure
            is_cut = self.numbers.random() < self.cuts[is_unsure]
            entropy = 2.0 if is_unsure else 0.01
            if chunk.has_ended:
                chunk.idle += 1
            else:
                chunk.drafts.append(draft(entropy, is_cut) if self.can_fire else draft(None))
                chunk.has_ended = len(chunk.drafts) == left
        took = self.student(len(self.chunks))
        self.seconds += took
        self.schedule.drafted(len(self.chunks), took)
        rows = self.schedule.due(self.chunks)
        if rows:
            self._verify(rows)

    def _verify(self, rows: list[int]) -> None:
        size = sum(len(self.chunks[row].drafts) for row in rows)
        took = self.teacher(size)
        outcomes = []
        for row in rows:
            drafts = self.chunks[row].drafts
            cut = next((i for i, one in enumerate(drafts) if one.token), None)
            outcomes.append(Outcome(drafts, len(drafts) if cut is None else cut + 1, cut is not None))
            self.left[row] = self.left[row] - outcomes[-1].committed or self._text_length()
            self.chunks[row] = Chunk()
        self.seconds += took
        self.tokens += sum(outcome.committed for outcome in outcomes)
        self.lengths.append(size / len(rows))
        self.schedule.verified(size, took, outcomes)


def rate(
    schedule: ChunkSchedule,
    rows: int,
    student: Cost,
    teacher: Cost,
    texts: tuple[int, int] | None = None,
) -> float:
    """Tokens a second after a beginning of some hundred tokens."""
    machine = Machine(schedule, rows, student, teacher, texts=texts)
    for _ in range(100):
        machine.round()
    tokens, seconds = machine.tokens, machine.seconds
    for _ in range(2400 // rows + 200):
        machine.round()
    return (machine.tokens - tokens) / (machine.seconds - seconds)


def flat(seconds: float, each: float = 0.0) -> Cost:
    """A pass that reads weights for so long, and computes so long for each token."""
    return lambda tokens: seconds + each * tokens


def roofline(seconds: float, each: float) -> Cost:
    """A pass is bound by memory up to some size, by arithmetic above."""
    return lambda tokens: max(seconds, each * tokens)


def interpolated(**seconds: float) -> Cost:
    """Measured seconds of passes (`t8` of 8 tokens), straight lines between them."""
    sizes = [int(name[1:]) for name in seconds]
    return lambda tokens: float(np.interp(tokens, sizes, list(seconds.values())))


# Qwen2.5-Coder 0.5B and 1.5B in float32 on two cores with AVX2, 150 tokens before the chunk: products of two
# rows cost twice as much as of one there, of 32 rows no more than of three.
STUDENT_ON_A_CPU = flat(0.127)
TEACHER_ON_A_CPU = interpolated(t1=0.323, t2=0.654, t3=0.925, t8=0.826, t16=0.96, t32=1.259, t128=4.0)


@pytest.mark.parametrize(
    ("rows", "student", "teacher"),
    [
        (1, STUDENT_ON_A_CPU, TEACHER_ON_A_CPU),
        (1, flat(1.0), flat(2.5, 0.05)),  # one text: memory decides
        (1, roofline(1.0, 0.1), roofline(3.0, 0.3)),
        (8, roofline(1.0, 0.05), roofline(3.0, 0.15)),
        (32, flat(1.0, 0.001), flat(2.5, 0.003)),  # a GPU
        (32, flat(0.3, 0.1), flat(0.9, 0.3)),  # a CPU: arithmetic decides
    ],
)
def test_adapted_chunks_are_as_good_as_the_best_length(rows: int, student: Cost, teacher: Cost) -> None:
    """Better at one row, where the entropy tells when to stop."""
    best = max(rate(Together(length), rows, student, teacher) for length in (1, 2, 4, 8, 16, 32, 64))
    assert rate(AdaptiveChunks(), rows, student, teacher) > (1.0 if rows == 1 else 0.96) * best


@pytest.mark.parametrize("texts", [(30, 90), (150, 450)])
@pytest.mark.parametrize(
    ("rows", "student", "teacher"),
    [
        (8, roofline(1.0, 0.05), roofline(3.0, 0.15)),
        (32, flat(1.0, 0.001), flat(2.5, 0.003)),
        (64, flat(1.0, 0.001), flat(2.5, 0.003)),
    ],
)
def test_rows_whose_text_has_ended_wait(
    rows: int, student: Cost, teacher: Cost, texts: tuple[int, int]
) -> None:
    """A pass for the ended rows alone costs what any pass costs at all, and the others need theirs too."""
    waiting = rate(AdaptiveChunks(), rows, student, teacher, texts)
    assert waiting > rate(EndedAlone(), rows, student, teacher, texts)
    assert waiting > 0.98 * rate(AtOnce(), rows, student, teacher, texts)
    for length in (4, 16):  # each row on its own schedule, packed into one pass with those that are ready
        assert waiting > rate(FixedChunks(length), rows, student, teacher, texts)


def test_hundreds_of_rows_are_not_verified_at_every_text_s_end() -> None:
    """Some text ends in most rounds there: with a pass at each, `auto` was hardly faster than lockstep."""
    gpu = flat(1.0, 0.001), flat(2.5, 0.003)
    rates = [rate(schedule, 200, *gpu, (30, 90)) for schedule in (AdaptiveChunks(), AtOnce(), FixedChunks(1))]
    assert rates[0] > 1.4 * rates[1] > 1.3 * rates[2]


class AtOnce(AdaptiveChunks):
    """Verifies all rows as soon as the text of one would end."""

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        is_due = any(chunk.has_ended for chunk in chunks) or self._is_long_enough(chunks)
        return list(range(len(chunks))) if is_due else []


class EndedAlone(AdaptiveChunks):
    """Verifies no row but those whose text would end, until a pass over all rows is worth it."""

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        self.is_whole = self._is_long_enough(chunks)
        return [row for row, chunk in enumerate(chunks) if self.is_whole or chunk.has_ended]

    def verified(self, tokens: int, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """The rate is that of whole passes: all tokens and times since the one before."""
        if self.is_whole:
            return super().verified(tokens, seconds, outcomes)
        for outcome in outcomes:
            self._cuts.add(outcome)
            self._tokens += outcome.committed
        self._teacher.add(tokens, seconds)
        self._seconds += self._teacher.seconds(tokens)


def test_costs_are_learned_within_the_first_text() -> None:
    """While they were, chunks stayed at one token or grew to 75: 160 tokens took 1.4 times as long as with
    chunks of the best length."""

    def first_text(schedule: ChunkSchedule, seed: int) -> float:
        machine = Machine(schedule, 1, STUDENT_ON_A_CPU, TEACHER_ON_A_CPU, (0.01, 0.3), 0.1, seed=seed)
        while machine.tokens < 160:
            machine.round()
        return machine.seconds / machine.tokens

    def mean(make: Callable[[], ChunkSchedule]) -> float:
        return sum(first_text(make(), seed) for seed in range(20)) / 20

    best = min(mean(lambda length=length: FixedChunks(length)) for length in (1, 8, 16, 32))
    assert mean(AdaptiveChunks) < 1.15 * best


class Together(FixedChunks):
    """All rows at once, as the adaptive schedule verifies them."""

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        return list(range(len(chunks))) if super().due(chunks) else []


def mean_length(schedule: ChunkSchedule, rows: int, student: Cost, teacher: Cost, **options: bool) -> float:
    machine = Machine(schedule, rows, student, teacher, **options)
    for _ in range(400):
        machine.round()
    lengths = machine.lengths[50:] or machine.lengths[len(FIRST_LENGTHS) :]
    return sum(lengths) / len(lengths)


def test_a_pass_that_costs_as_much_for_each_token_is_lockstep() -> None:
    assert mean_length(AdaptiveChunks(), 16, flat(0.0, 0.1), flat(0.0, 0.3)) < 1.2


def test_a_student_that_is_never_cut_writes_long_chunks() -> None:
    """Calibration: greedy's text depends on no teacher."""
    for rows in (1, 32):
        length = mean_length(AdaptiveChunks(), rows, flat(1.0), flat(2.5, 0.05), can_fire=False)
        assert length > 50


def test_a_disturbance_at_the_start_is_not_believed_for_ever() -> None:
    """The first passes of a few sizes took a hundred times as long: a neighbour on the machine."""
    passes: list[int] = []

    def disturbed(tokens: int) -> float:
        passes.append(tokens)
        return (100 if 2 <= len(passes) <= 4 else 1) * (2.5 + 0.05 * tokens)

    machine = Machine(AdaptiveChunks(), 1, flat(1.0), disturbed)
    for _ in range(600):
        machine.round()
    assert sum(machine.lengths[-20:]) / 20 > 4


def test_rows_that_cannot_draft_on_are_verified_at_once() -> None:
    chunks = [Chunk([draft(0.1)]), Chunk([draft(0.1)], has_ended=True), Chunk([draft(0.1)] * 3)]
    assert FixedChunks(5).due(chunks) == [1]
    assert FixedChunks(3).due(chunks) == [1, 2]
    begun = AdaptiveChunks()
    begun.verified(1, 1.0, [Outcome([draft(0.1)], 1, False)])
    assert begun.due(chunks) == []  # its second pass is to read eight tokens
    assert begun.due(chunks[1:2]) == [0]
    for reason in ({"is_closed": True}, {"is_broken": True}):
        chunks[1] = Chunk([draft(0.1)], **reason)
        assert FixedChunks(5).due(chunks) == [1]
        assert AdaptiveChunks().due(chunks) == [0, 1, 2]


def test_costs_between_and_beyond_what_was_timed() -> None:
    curve = CostCurve()
    assert curve.seconds(3) == 0
    for took in (9.0, 2.0, 1.0):
        curve.add(4, took)  # the median is 2
    assert curve.seconds(8) == 4  # of one size alone nothing else is known than proportion
    curve.add(16, 5.0)
    assert [curve.seconds(size) for size in (1, 4, 10, 16, 32)] == [2, 2, 3.5, 5, 9]
    curve.add(40, 99.0)
    assert curve.seconds(80) == 198  # no steeper than in proportion
    faster = CostCurve()
    faster.add(4, 2.0)
    faster.add(16, 1.0)
    assert faster.seconds(48) == 2  # half as fast as in proportion


def test_the_mean_rate_of_cuts_is_soon_the_counted_one() -> None:
    """Once summed over the bins, whose assumed cuts are those of unsure steps: after 200 steps with 4 cuts it
    was 4.9 %, so that eight rows read chunks of two tokens where four would have been faster."""
    rates = CutRates()
    assert rates.mean_survival == pytest.approx(0.96)
    for _ in range(4):
        rates.add(Outcome([draft(0.01)] * 50, 50, True))
    assert rates.mean_survival == pytest.approx(1 - 5 / 225)


def test_rates_of_cuts_follow_the_entropy() -> None:
    rates = CutRates()
    sure, unsure, never = draft(0.01), draft(3.0), draft(None)
    assert rates.survival([never] * 100) == 1
    assert rates.survival([unsure]) < rates.survival([sure]) < 1
    for _ in range(100):
        rates.add(Outcome([sure, unsure, sure], 2, True))
    assert rates.survival([unsure]) < 0.2 < 0.99 < rates.survival([sure])
    assert rates.survival([sure, unsure]) == pytest.approx(rates.survival([sure]) * rates.survival([unsure]))


def test_texts_of_one_token_teach_nothing_about_the_teacher() -> None:
    """Their only token is verified from the prompt's state. Three of them once used up the planned passes; a
    longer text then divided by the seconds of passes that had never been made."""
    schedule = AdaptiveChunks()
    for _ in range(len(FIRST_LENGTHS) + 1):
        chunks = [Chunk([draft(0.1)], has_ended=True)]
        assert schedule.due(chunks) == [0]
        schedule.verified(0, 0.001, [Outcome(chunks[0].drafts, 1, False)])
    machine = Machine(schedule, 1, flat(1.0), flat(2.5, 0.05))
    for _ in range(30):
        machine.round()
    assert machine.lengths[: len(FIRST_LENGTHS)] == [1, 8, 16]


def test_a_run_begins_with_passes_of_several_sizes() -> None:
    """One row drafts more tokens for them than several rows, as docs/design/engine.md describes."""
    for rows, lengths in ((1, [1, 8, 16]), (8, [1, 2, 4])):
        machine = Machine(AdaptiveChunks(), rows, flat(1.0), flat(2.5, 0.05))
        for _ in range(30):
            machine.round()
        assert machine.lengths[: len(FIRST_LENGTHS)] == lengths
