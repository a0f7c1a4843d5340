"""When drafted tokens are verified: chunks of a fixed length, or of a length that measurements decide."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from s2t_eval.engine.drafts import Chunk, Draft

Verify = int | Literal["auto"]
"""Length of a chunk in tokens; 1 is lockstep."""

MAX_CHUNK = 128
"""Longest chunk of `auto` in tokens: a teacher's pass for each hundred tokens is next to nothing."""
FIRST_LENGTHS = (1, 2, 4)
"""Lengths of a run's first chunks, from which the costs of passes of several sizes are known."""
FIRST_TOKENS = (1, 8, 16)
"""Tokens that these passes read at least: with few rows the chunks are longer than that."""
LENGTHS = (1, 2, 4, 8, 16, 32, 64)
"""Lengths of a chunk of which the fastest is what a round can be spent on instead."""
PROBE_EVERY = 32
"""Passes after which a chunk of twice the last length is tried: a time measured once may have been a
disturbance."""
TIMES_KEPT = 7
"""Times of which a median is taken, for passes of one size."""
MEMORY = 0.95
"""Weight of the earlier passes in the mean rate: about the last 20 passes count."""
AHEAD = (1, 2, 4, 8, 16, 32)
"""Numbers of further rounds that are weighed."""
ADVANTAGE = 1.01
"""How much faster further rounds have to be; without it, rounding decides where neither is faster."""
ENTROPY_BINS = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Bounds in nats between steps whose rates of cuts are counted apart."""
PRIOR_CUTS, PRIOR_STEPS = (0.15, 0.3, 0.6, 1.5, 3.0, 6.0), 20.0
"""Cuts assumed of so many steps before anything has been counted in a bin: an unsure student is cut more
often. They are rather too many: tokens drafted behind a cut cost more than a chunk that is too short. The
first few dozen steps of a text outweigh them."""
PRIOR_MEAN_CUTS, PRIOR_MEAN_STEPS = 1.0, 25.0
"""The same for all steps together: most are sure ones, so the sum over the bins would assume too many."""


class Outcome(NamedTuple):
    """What became of one row's chunk."""

    drafts: Sequence[Draft]
    committed: int
    """its steps that are now text, the one at which it was cut included"""
    is_cut: bool
    """whether another token than the drafted one was taken at the last of them"""


class ChunkSchedule(Protocol):
    """Decides which rows are verified in a round. No text depends on it."""

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        """The rows to verify now, ascending: those that can neither draft nor wait, and others at will."""
        ...

    def drafted(self, rows: int, seconds: float) -> None:
        """A student's step of this many rows took so long."""
        ...

    def verified(self, tokens: int, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """A teacher's pass over this many tokens took so long, and what came of it; 0 tokens: no pass."""
        ...


class FixedChunks:
    """Each row is verified on its own schedule, whenever it has drafted `length` tokens."""

    def __init__(self, length: int) -> None:
        self.length = length

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        """The rows whose chunk is full, or that cannot draft on."""
        return [
            row
            for row, chunk in enumerate(chunks)
            if chunk.must_verify or chunk.has_ended or len(chunk.drafts) >= self.length
        ]

    def drafted(self, rows: int, seconds: float) -> None:
        """Nothing depends on times."""

    def verified(self, tokens: int, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Nothing depends on times."""


class AdaptiveChunks:
    """Verifies once no number of further rounds is expected to give as many tokens a second as a new chunk.

    A further round costs a step of the student and a few more tokens in the teacher's pass; it gives one
    token for each row that has not been cut by then. The rate of cuts is counted by the student's entropy,
    the costs are medians of this process's own passes. To go on while the marginal rate is above the rate
    of the best rule is the optimal stopping rule of renewal processes (the marginal value theorem). That rate
    is the one that chunks of the best single length are expected to reach, or the mean of the last passes
    where they were faster: the mean alone is low while costs are being learned, and chunks then grow too long
    or stay at one token.

    Several further rounds are weighed together, because the costs of passes are not convex: on CPUs a pass of
    two tokens can cost twice as much as one of a single token, and one of sixteen no more than that
    (`AHEAD`). Where the teacher's pass costs as much for each token as for one, as with many rows on a CPU, a
    chunk ends after one token: that is lockstep. Where a pass costs the same for many tokens as for one,
    chunks grow until the student is unsure.

    All rows are verified in one pass: a row that is ready early loses nothing, since each of its tokens has
    to be read once at any time, and what the pass costs at all is paid already. For the same reason a row
    whose text would end waits for the others. It gives no token in a further round, so a round is worth less
    the more rows wait.
    """

    def __init__(self) -> None:
        self._student, self._teacher = CostCurve(), CostCurve()
        self._cuts = CutRates()
        self._planned = deque(zip(FIRST_LENGTHS, FIRST_TOKENS, strict=True))
        self._passes = 0
        self._rounds = 0
        self._tokens = 0.0
        self._seconds = 0.0

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        """All rows, or none."""
        is_due = (
            any(chunk.must_verify for chunk in chunks)
            or all(chunk.has_ended for chunk in chunks)
            or self._is_long_enough(chunks)
        )
        return list(range(len(chunks))) if is_due else []

    def drafted(self, rows: int, seconds: float) -> None:
        """Note the time of a student's step."""
        self._rounds += 1
        self._student.add(rows, seconds)

    def verified(self, tokens: int, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Note the time of a teacher's pass, the cuts, and the rate of tokens since the pass before.

        A text's first token is verified from the teacher's state at the end of the prompt. Where no row has
        further drafts, the teacher made no pass, and there is no time from which anything could be learned.
        """
        for outcome in outcomes:
            self._cuts.add(outcome)
        if not tokens:
            return
        self._teacher.add(tokens, seconds)
        spent = self._rounds * self._student.seconds(len(outcomes)) + self._teacher.seconds(tokens)
        self._tokens = MEMORY * self._tokens + sum(outcome.committed for outcome in outcomes)
        self._seconds = MEMORY * self._seconds + spent
        self._rounds = 0
        self._passes += 1
        if self._planned:
            self._planned.popleft()
        elif self._passes % PROBE_EVERY == 0:
            self._planned.append((2 * max(len(outcome.drafts) for outcome in outcomes), 0))

    def _is_long_enough(self, chunks: Sequence[Chunk]) -> bool:
        length = max(chunk.rounds for chunk in chunks)
        if length >= MAX_CHUNK:
            return True
        rows, tokens = len(chunks), sum(len(chunk.drafts) for chunk in chunks)
        if self._planned:
            least, size = self._planned[0]
            return length >= least and tokens >= size
        drafting = [chunk for chunk in chunks if not chunk.has_ended]
        surviving = sum(self._cuts.survival(chunk.drafts) for chunk in drafting)
        going_on = self._cuts.mean_survival
        step, now = self._student.seconds(rows), self._teacher.seconds(tokens)
        rate = max(self._best_rate(rows), self._tokens / self._seconds)
        for rounds in AHEAD:
            if length + rounds > MAX_CHUNK:
                break
            gained = surviving * _expected_tokens(rounds, going_on)
            longer = max(0.0, self._teacher.seconds(tokens + rounds * len(drafting)) - now)
            if gained > ADVANTAGE * rate * (rounds * step + longer):
                return False
        return True

    def _best_rate(self, rows: int) -> float:
        """Tokens a second that chunks of one length are expected to give, of the best of `LENGTHS`."""
        step, going_on = self._student.seconds(rows), self._cuts.mean_survival
        return max(
            rows * _expected_tokens(length, going_on) / (length * step + self._teacher.seconds(length * rows))
            for length in LENGTHS
        )


def _expected_tokens(rounds: int, survival: float) -> float:
    """Tokens that so many rounds are expected to give a row: it goes on with this probability at each."""
    return (1 - survival**rounds) / (1 - survival)


class CostCurve:
    """Seconds of a pass by its tokens, from those that were timed; straight lines between them.

    Below the smallest pass the time stays: a pass reads its weights once, however few its tokens. Above the
    largest one it grows at least half as fast as in proportion, and at most in proportion: with too low a
    guess chunks grow for nothing, with too high a one no longer pass is ever timed.
    """

    def __init__(self) -> None:
        self._timed: dict[int, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=TIMES_KEPT))
        self._median: dict[int, tuple[int, float]] = {}
        self._points: list[tuple[int, float]] = []

    def add(self, tokens: int, seconds: float) -> None:
        """Note a pass; of sizes between two powers of two, that of the median time a token counts."""
        size = tokens.bit_length()
        timed = self._timed[size]
        timed.append((tokens, seconds))
        self._median[size] = sorted(timed, key=lambda one: one[1] / one[0])[(len(timed) - 1) // 2]
        self._points = sorted(self._median.values())

    def seconds(self, tokens: int) -> float:
        """What a pass of so many tokens takes, 0 before any has been timed."""
        points = self._points
        if not points or tokens <= points[0][0]:
            return points[0][1] if points else 0.0
        place = min(bisect(points, (tokens, 0.0)), len(points) - 1)
        if place == 0:
            return points[0][1] * tokens / points[0][0]
        (size, took), (next_size, next_took) = points[place - 1 : place + 1]
        slope = (next_took - took) / (next_size - size)
        if tokens > next_size:
            proportion = next_took / next_size
            slope = min(max(proportion / 2, slope), proportion)
        return next_took + slope * (tokens - next_size)


class CutRates:
    """How often a drafted step is cut, by the student's entropy there."""

    def __init__(self) -> None:
        self._cuts = list(PRIOR_CUTS)
        self._steps = [PRIOR_STEPS] * len(PRIOR_CUTS)
        self._all_cuts, self._all_steps = PRIOR_MEAN_CUTS, PRIOR_MEAN_STEPS

    def add(self, outcome: Outcome) -> None:
        """Count a verified chunk."""
        self._all_cuts += outcome.is_cut
        self._all_steps += outcome.committed
        for draft in outcome.drafts[: outcome.committed]:
            if draft.entropy is not None:
                self._steps[bisect(ENTROPY_BINS, draft.entropy)] += 1
        last = outcome.drafts[outcome.committed - 1]
        if outcome.is_cut and last.entropy is not None:
            self._cuts[bisect(ENTROPY_BINS, last.entropy)] += 1

    @property
    def mean_survival(self) -> float:
        """The probability that a step is not cut, before its entropy is known or whether it can fire."""
        return 1 - self._all_cuts / self._all_steps

    def survival(self, drafts: Sequence[Draft]) -> float:
        """The probability that none of these steps is cut."""
        product = 1.0
        for draft in drafts:
            if draft.entropy is not None:
                place = bisect(ENTROPY_BINS, draft.entropy)
                product *= 1 - self._cuts[place] / self._steps[place]
        return product


def make_schedule(verify: Verify) -> ChunkSchedule:
    """The schedule of an argument `verify`."""
    return AdaptiveChunks() if verify == "auto" else FixedChunks(verify)
