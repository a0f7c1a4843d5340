"""A teacher that verifies in chunks makes the texts and records of a teacher in lockstep."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner, NonFiniteLogitsError, Request, Result, Sampling
from s2t_eval.engine.chunk_schedule import FixedChunks, Verify
from s2t_eval.engine.drafts import Chunk
from s2t_eval.engine.packing import Packed
from s2t_eval.engine.prefix_cache import MIN_SHARED, PrefixCache, cached_prefix
from s2t_eval.engine.runner import PASS_TOKENS
from s2t_eval.engine.selection_step import SelectionStepper
from s2t_eval.engine.verifying_step import VerifyingStepper
from s2t_eval.selection import policy as presets
from s2t_eval.selection.policy import Policy, greedy
from s2t_eval.selection.triggers import (
    EntropyTrigger,
    KlTrigger,
    LineEntropyTrigger,
    MarginTrigger,
    PositionTrigger,
    RandomTrigger,
)
from tests import twins
from tests.twins import VOCAB, decode, hidden_after, outputs, prompts, tiny_model

DIRECTIONS = ("student_teacher", "teacher_student")


@pytest.fixture(scope="module")
def pair() -> tuple[PreTrainedModel, PreTrainedModel]:
    """A student and a teacher that agrees with it at most steps, so that some fired steps keep its token.

    One family is enough where the layout of the caches does not matter.
    """
    student, teacher = tiny_model("qwen2", seed=0), tiny_model("qwen2", seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=generator)
    return student, teacher


def requests(count: int = 6) -> list[Request]:
    """Prompts of 1 to 60 tokens, answers of 12 to 27."""
    return twins.requests(count)


@functools.cache
def divergences(student: PreTrainedModel, teacher: PreTrainedModel, trigger: KlTrigger) -> list[float]:
    results = decode(student, greedy(), requests(), teacher, observe=[trigger], rows=8)
    return sorted(value for result in results for value in result.observed[0])


def threshold(student: PreTrainedModel, teacher: PreTrainedModel, trigger: KlTrigger, rate: float) -> float:
    """Between two divergences that were seen, so that rounding decides nothing; `rate` of steps fire."""
    values = divergences(student, teacher, trigger)
    place = int((1 - rate) * (len(values) - 1))
    return (values[place] + values[place + 1]) / 2


def assert_same(found: Sequence[Result], expected: Sequence[Result]) -> None:
    """Texts, records and everything that lockstep counts but for what was drafted in vain."""
    for one, other in zip(found, expected, strict=True):
        assert (one.output_ids, one.finish) == (other.output_ids, other.finish)
        assert [step.t for step in one.steps] == [step.t for step in other.steps]
        for a, b in zip(one.steps, other.steps, strict=True):
            assert (a.candidates, a.greedy, a.picked, a.teacher) == (
                b.candidates,
                b.greedy,
                b.picked,
                b.teacher,
            )
            assert a.divergence == pytest.approx(b.divergence, rel=1e-3, abs=1e-4)
            assert a.scores == pytest.approx(b.scores, rel=1e-3, abs=1e-4)
        for name in ("tokens", "triggers", "flips", "hits", "misses", "teacher_generated"):
            assert getattr(one.usage, name) == getattr(other.usage, name)
        discarded = one.usage.discarded_tokens
        assert one.usage.forwards == other.usage.forwards + discarded
        assert len(one.observed) == len(other.observed)
        for mine, theirs in zip(one.observed, other.observed, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def teacher_tokens(results: Sequence[Result]) -> int:
    return sum(result.usage.teacher_tokens for result in results)


def discarded(results: Sequence[Result]) -> int:
    return sum(result.usage.discarded_tokens for result in results)


# ---------------------------------------------------------------- several tokens at once, and back


def test_states_of_appended_tokens_are_those_of_whole_texts(student: PreTrainedModel) -> None:
    """Ragged, a row left as it is, more tokens than a pass holds, and after tokens were taken back."""
    runner = ModelRunner(student)
    runner.allocate(4, 120)
    texts = [list(prompt[:30]) for prompt in prompts(4)]
    new = [[5, 6, 7], [], [8], list(range(20, 60))]
    with torch.inference_mode():
        runner.prefill(range(4), texts)
        runner.extend([0, 3], [[99] * 9, [98, 97]])
        for row in (0, 3):
            runner.truncate(row, len(texts[row]))
        states = runner.extend(range(4), new)
    for row, (text, tokens) in enumerate(zip(texts, new, strict=True)):
        assert runner.tokens[row] == [*text, *tokens]
        assert len(states[row]) == len(tokens)
        for i in range(0, len(tokens), 3):
            expected = hidden_after(student, [*text, *tokens[: i + 1]])
            torch.testing.assert_close(states[row][i], expected, atol=3e-4, rtol=3e-4)


def test_no_pass_holds_more_tokens_than_a_prefill_s(
    pair: tuple[PreTrainedModel, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_TOKENS, "cpu", 8)
    runner = ModelRunner(pair[0])
    runner.allocate(3, 40)
    with torch.inference_mode():
        runner.prefill(range(3), [[1, 2], [3], [4]])
        before = runner.counters.passes
        states = runner.extend(range(3), [[1] * 5, [2] * 3, [3] * 4])
    assert runner.counters.passes - before == 2
    assert [len(part) for part in states] == [5, 3, 4]


def test_a_long_text_is_read_in_several_passes(
    pair: tuple[PreTrainedModel, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mask grew with the square of its length: gigabytes for a prompt of 8,000 tokens."""
    monkeypatch.setitem(PASS_TOKENS, "cpu", 8)
    runner, long, short = ModelRunner(pair[0]), [i * 7 % 90 for i in range(30)], [3, 1, 4]
    runner.allocate(2, 40)
    sizes, forward = [], runner.forward

    def counted(packed: Packed) -> torch.Tensor:
        sizes.append(len(packed.ids))
        return forward(packed)

    monkeypatch.setattr(runner, "forward", counted)
    with torch.inference_mode():
        prefilled = runner.prefill([0, 1], [long, short])
        every = runner.encode([long])[0]
    assert max(sizes) == 8 and prefilled.computed == [30, 3]
    for state, text in zip(prefilled.hidden, (long, short), strict=True):
        torch.testing.assert_close(state, hidden_after(pair[0], text), atol=3e-4, rtol=3e-4)
    for length in (1, 8, 9, 30):
        expected = hidden_after(pair[0], long[:length])
        torch.testing.assert_close(every[length - 1], expected, atol=3e-4, rtol=3e-4)


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_hold_their_text_are_planned_as_by_the_search(seed: int) -> None:
    """Without it every text of the batch was converted at each step at which one of them fired."""
    rng, rows = random.Random(seed), 5
    base = [rng.randrange(9) for _ in range(60)]
    cache = PrefixCache(rows)
    cache.tokens = [base[: rng.randrange(61)] + [9] * rng.randrange(3) for _ in range(rows)]
    texts = [base[: rng.randrange(1, 61)] + [rng.randrange(9)] * rng.randrange(1, 4) for _ in range(rows)]
    plan = cache.plan(range(rows), texts, range(rows), 100)
    soon: list[int] = []
    for i, text in enumerate(texts):
        lengths = [slow_prefix(text, tokens) for tokens in cache.tokens]
        longest = max(lengths)
        own = lengths[i] if longest < lengths[i] + MIN_SHARED else longest
        if max((slow_prefix(text, texts[j]) for j in soon), default=0) >= own + MIN_SHARED:
            assert i in plan.postponed
            continue
        soon.append(i)
        assert plan.cached[plan.now.index(i)] == min(own, len(text) - 1)
        assert cached_prefix(text, cache.tokens[i]) == min(lengths[i], len(text) - 1)
    assert plan.now == soon


def slow_prefix(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


# ---------------------------------------------------------------- the twin


@pytest.mark.parametrize("preset", [presets.s2t, presets.takeover])
def test_chunks_are_lockstep_in_every_family(
    student: PreTrainedModel, teacher: PreTrainedModel, preset: object
) -> None:
    policy = preset(KlTrigger(), threshold(student, teacher, KlTrigger(), 0.3), top_k=6)  # type: ignore[operator]
    expected = decode(student, policy, requests(), teacher, rows=3)
    for verify in (4, "auto"):
        found = decode(student, policy, requests(), teacher, rows=3, verify=verify)
        assert_same(found, expected)
        assert teacher_tokens(found) == teacher_tokens(expected) + discarded(found)
    assert sum(result.usage.flips for result in expected) > 0


@pytest.mark.parametrize(
    ("direction", "support", "rows"),
    [
        (DIRECTIONS[0], 0, 1),
        (DIRECTIONS[1], 64, 1),
        (DIRECTIONS[0], 0, 8),
        pytest.param(DIRECTIONS[1], 64, 8, marks=pytest.mark.slow),
        pytest.param(DIRECTIONS[0], 0, 32, marks=pytest.mark.slow),
        (DIRECTIONS[1], 64, 32),
    ],
)
def test_triggers_and_batches(
    pair: tuple[PreTrainedModel, PreTrainedModel], direction: str, support: int, rows: int
) -> None:
    """More texts than rows, so that rows are refilled. Six texts once stood for 8 rows and for 32: a decoder
    has no more rows than texts."""
    trigger = KlTrigger(direction, support)  # type: ignore[arg-type]
    policy = presets.s2t(trigger, threshold(*pair, trigger, 0.2), warmup_tokens=3)
    asked = requests(rows + 5)
    expected = decode(pair[0], policy, asked, pair[1], rows=rows)
    for verify in (5, "auto"):
        decoder = verifying_decoder(*pair, policy, verify, rows)
        widths: set[int] = set()
        found = list(decoder.run(asked, lambda state, widths=widths: widths.add(len(state.active))))
        assert_same(sorted(found, key=lambda result: result.index), expected)
        assert max(widths) == rows
    assert sum(result.usage.flips for result in expected) > 0


@pytest.mark.parametrize("rate", [0.02, 0.98])
def test_rare_and_frequent_cuts(pair: tuple[PreTrainedModel, PreTrainedModel], rate: float) -> None:
    policy = presets.takeover(KlTrigger(), threshold(*pair, KlTrigger(), rate))
    expected = decode(pair[0], policy, requests(), pair[1])
    for verify in (2, 7, "auto"):
        assert_same(decode(pair[0], policy, requests(), pair[1], verify=verify), expected)
    flips, triggers = (sum(getattr(r.usage, name) for r in expected) for name in ("flips", "triggers"))
    assert flips > 0
    assert flips < triggers or rate < 0.1, "some fired steps keep greedy's token"


def test_texts_of_one_token_before_a_longer_one(pair: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    """Behind three texts that ended at their first token `verify=auto` divided by zero."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3), top_k=6)
    lengths = [1, 1, 1, 25, 1]
    asked = [replace(one, max_new_tokens=n) for one, n in zip(requests(5), lengths, strict=True)]
    expected = decode(pair[0], policy, asked, pair[1], rows=1)
    assert_same(decode(pair[0], policy, asked, pair[1], rows=1, verify="auto"), expected)


def test_a_chunk_of_one_token_is_lockstep_pass_for_pass(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    """`verify=1` takes the lockstep stepper itself; the verifying one at that length costs the same."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    expected = decode(pair[0], policy, requests(), pair[1])
    decoder = verifying_decoder(*pair, policy, 2)
    decoder.stepper.schedule.length = 1  # type: ignore[union-attr]
    found = sorted(decoder.run(requests()), key=lambda result: result.index)
    assert_same(found, expected)
    for one, other in zip(found, expected, strict=True):
        assert replace(one.usage, seconds=0) == replace(other.usage, seconds=0)


def test_longer_chunks_take_fewer_passes_of_the_teacher(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.1))
    passes = []
    for length in (1, 4, 16):
        results = decode(pair[0], policy, requests(3), pair[1], rows=1, verify=length)
        passes.append(sum(result.usage.teacher_calls for result in results))
    assert passes[0] > 2 * passes[1] > 2 * passes[2]


def test_a_chunk_longer_than_the_text_that_is_never_cut_discards_nothing(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    policy = presets.s2t(KlTrigger(), 1e9)
    results = decode(pair[0], policy, requests(), pair[1], verify=1000)
    assert outputs(results) == outputs(decode(pair[0], greedy(), requests()))
    assert discarded(results) == 0
    assert all(result.usage.teacher_calls <= 2 for result in results)  # prompt and answer


# ---------------------------------------------------------------- where a text ends


def words(ids: Sequence[int]) -> str:
    return "".join(f"<{token}>" for token in ids)


def test_stop_tokens_and_strings_end_a_text_where_lockstep_ends_it(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    texts = outputs(decode(pair[0], policy, requests(), pair[1]))
    asked = [
        replace(request, stop_ids=frozenset({text[5]}), stop_strings=(words(text[7:9]),))
        if i % 2
        else replace(request, stop_strings=(words(text[6:8]),))
        for i, (request, text) in enumerate(zip(requests(), texts, strict=True))
    ]
    expected = decode(pair[0], policy, asked, pair[1], decode=words)
    assert {result.finish.value for result in expected} == {"stop_id", "stop_string"}
    for verify, rows in ((3, 4), (50, 1), ("auto", 4)):
        found = decode(pair[0], policy, asked, pair[1], rows=rows, decode=words, verify=verify)
        assert_same(found, expected)


class Patient(FixedChunks):
    """Verifies all rows together once one of them can neither draft nor wait, or all of them wait."""

    waited = 0

    def due(self, chunks: Sequence[Chunk]) -> list[int]:
        is_due = any(chunk.must_verify for chunk in chunks) or all(chunk.has_ended for chunk in chunks)
        self.waited += is_due and sum(chunk.idle for chunk in chunks)
        return list(range(len(chunks))) if is_due else []


def test_what_is_read_while_an_ended_text_waits_leaves_no_trace(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    """Rows end at different places and wait for the longest, up to their limit of new tokens."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.1))
    texts = outputs(decode(pair[0], policy, requests(), pair[1]))
    asked = [
        replace(request, stop_ids=frozenset({text[3 + i]}))
        for i, (request, text) in enumerate(zip(requests(), texts, strict=True))
    ]
    observe = [KlTrigger(), MarginTrigger()]
    expected = decode(pair[0], policy, asked, pair[1], observe=observe, keep_top=5, rows=4)
    decoder = Decoder(
        ModelRunner(pair[0]), policy, ModelRunner(pair[1]), rows=4, observe=observe, keep_top=5, verify=50
    )
    decoder.stepper.schedule = schedule = Patient(50)  # type: ignore[union-attr]
    found = sorted(decoder.run(asked), key=lambda result: result.index)
    assert_same(found, expected)
    assert discarded(found) > sum(len(result.output_ids) for result in found) / 2
    # The teacher reads drafts alone, not what a student reads in order to wait.
    assert teacher_tokens(found) == teacher_tokens(expected) + discarded(found) - schedule.waited
    assert schedule.waited > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.top_ids is not None and theirs.top_ids is not None
        assert torch.equal(mine.top_ids, theirs.top_ids)


def test_a_stop_string_in_a_discarded_thought_is_found_again(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    """What a draft says of open thoughts is forgotten with it: the stop rule looked past the next stop."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.5))
    texts = outputs(decode(pair[0], policy, requests(), pair[1]))
    closing = [text[7] for text in texts]
    asked = [replace(request, stop_strings=("<",), in_thought=True) for request in requests()]

    def answer_of(ids: Sequence[int], in_thought: bool) -> str | None:
        ends = [i for i, token in enumerate(ids) if token in closing]
        return words(ids[ends[0] + 1 :]) if ends else None

    options = {"decode": words, "answer_of": answer_of}
    expected = decode(pair[0], policy, asked, pair[1], **options)
    for verify in (3, 50):
        assert_same(decode(pair[0], policy, asked, pair[1], verify=verify, **options), expected)


# ---------------------------------------------------------------- what is recorded


@pytest.mark.parametrize("verify", [5, 1000, "auto"])
def test_observed_divergences_are_those_of_lockstep(
    pair: tuple[PreTrainedModel, PreTrainedModel], verify: Verify
) -> None:
    observe = [EntropyTrigger(), KlTrigger(), MarginTrigger(), KlTrigger("teacher_student", 0)]
    options = {"observe": observe, "keep_top": 5, "rows": 4}
    expected = decode(pair[0], greedy(), requests(), pair[1], **options)
    found = decode(pair[0], greedy(), requests(), pair[1], verify=verify, **options)
    assert_same(found, expected)
    assert discarded(found) == 0
    for one, other in zip(found, expected, strict=True):
        assert one.top_ids is not None and one.top_log_probs is not None
        assert torch.equal(one.top_ids, other.top_ids)  # type: ignore[arg-type]
        torch.testing.assert_close(one.top_log_probs, other.top_log_probs)


def test_observing_beside_a_policy_that_cuts(pair: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    """Triggers of the position are evaluated at drafts, whose text is not yet the sequence's."""
    lines = LineEntropyTrigger(torch.arange(VOCAB) % 3 == 0)
    observe = [EntropyTrigger(), KlTrigger("teacher_student"), lines, PositionTrigger()]
    policy = presets.takeover(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    expected = decode(pair[0], policy, requests(), pair[1], observe=observe, keep_top=3)
    found = decode(pair[0], policy, requests(), pair[1], observe=observe, keep_top=3, verify=6)
    assert_same(found, expected)
    assert discarded(found) > 0
    assert sum(result.usage.teacher_generated for result in found) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.observed[3] == pytest.approx([1 / (1 + t) for t in range(len(one.output_ids))])
        assert torch.equal(one.top_ids, other.top_ids)  # type: ignore[arg-type]


# ---------------------------------------------------------------- what decodes in lockstep


def test_sampled_texts_are_those_of_lockstep(pair: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    asked = [
        replace(request, sampling=Sampling(0.8, top_k=20) if i % 2 else None, seed=100 + i)
        for i, request in enumerate(requests())
    ]
    expected = decode(pair[0], policy, asked, pair[1])
    for verify in (6, "auto"):
        found = decode(pair[0], policy, asked, pair[1], verify=verify)
        assert_same(found, expected)
        assert all(result.usage.discarded_tokens == 0 for result in found[1::2])


def verifying_decoder(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    policy: Policy,
    verify: Verify,
    rows: int = 4,
    **options: object,
) -> Decoder:
    runners = ModelRunner(student, "student"), ModelRunner(teacher, "teacher")
    return Decoder(runners[0], policy, runners[1], rows, verify=verify, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "observe", "expected"),
    [
        (presets.s2t(KlTrigger(), 1.0), (), VerifyingStepper),
        (greedy(), (KlTrigger(),), VerifyingStepper),
        (presets.s2t(EntropyTrigger(), 1.0), (), SelectionStepper),
        (presets.s2t(RandomTrigger(), 0.9), (), SelectionStepper),
        (presets.s2t(KlTrigger(), 1.0), (RandomTrigger(),), SelectionStepper),
        (greedy(), (EntropyTrigger(),), SelectionStepper),
    ],
)
def test_chunks_serve_a_teacher_that_reads_every_token(
    pair: tuple[PreTrainedModel, PreTrainedModel], policy: Policy, observe: tuple[object, ...], expected: type
) -> None:
    for verify in (8, "auto"):
        assert type(verifying_decoder(*pair, policy, verify, observe=observe).stepper) is expected
    assert type(verifying_decoder(*pair, policy, 1, observe=observe).stepper) is SelectionStepper


# ---------------------------------------------------------------- tokens that are on the device already


class Noting(ModelRunner):
    """A model that notes at which of its steps the tokens were on the device already."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        super().__init__(model, name)
        self.on_device: list[bool] = []

    def append(self, tokens: Sequence[int], ids: Tensor | None = None) -> Tensor:
        if ids is not None:
            assert ids.tolist() == list(tokens)
        self.on_device.append(ids is not None)
        return super().append(tokens, ids)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_tokens_are_sent_only_where_another_was_picked(
    pair: tuple[PreTrainedModel, PreTrainedModel], rate: float
) -> None:
    """A draft and the student's token in lockstep were read by the host and sent back to the device."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), rate) if rate else 1e9)
    [result] = expected = decode(pair[0], policy, [Request(prompts(4)[1], 25)], pair[1])
    fired = {step.t for step in result.steps}
    assert bool(fired) == bool(rate)
    for verify in (1, 4):
        student, teacher = Noting(pair[0], "student"), Noting(pair[1], "teacher")
        found = list(Decoder(student, policy, teacher, verify=verify).run([result.request]))
        assert_same(found, expected)
        if verify == 1:  # no step is made behind the last token
            assert student.on_device == teacher.on_device == [t not in fired for t in range(24)]
        elif not fired:
            assert student.on_device == [t % 4 != 3 for t in range(24)]
        else:
            assert set(student.on_device) == {True, False}


# ---------------------------------------------------------------- errors


def test_memory_that_runs_out_in_a_chunk_changes_no_text(
    pair: tuple[PreTrainedModel, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    expected = decode(pair[0], policy, requests(), pair[1])
    decoder = verifying_decoder(*pair, policy, 5)
    extend, calls = ModelRunner.extend, []

    def failing(runner: ModelRunner, *args: object) -> object:
        calls.append(runner.name)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("out of memory")
        return extend(runner, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelRunner, "extend", failing)
    assert_same(sorted(decoder.run(requests()), key=lambda result: result.index), expected)
    assert len(calls) > 4


class Breaking(ModelRunner):
    """A model whose logits are not numbers behind a text that ends with one of some tokens."""

    breaks_behind: frozenset[int] = frozenset()

    def forward(
        self, packed: Packed, positions: Tensor | None = None, embeds: Tensor | None = None
    ) -> Tensor:
        hidden = super().forward(packed, positions, embeds)
        broken = torch.tensor([int(token) in self.breaks_behind for token in packed.ids])
        return hidden.masked_fill(broken[:, None], float("nan"))


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("verify", [1, 4, 50, "auto"])
def test_logits_that_are_no_numbers_are_named_at_lockstep_s_step(
    pair: tuple[PreTrainedModel, PreTrainedModel], role: str, verify: Verify
) -> None:
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    request = Request(prompts(4)[1], 40)
    [result] = decode(pair[0], policy, [request], pair[1])
    place = next(i for i in range(8, 40) if result.output_ids[i] not in result.output_ids[:i])
    runners = {"student": Breaking(pair[0], "student"), "teacher": Breaking(pair[1], "teacher")}
    decoder = Decoder(runners["student"], policy, runners["teacher"], verify=verify)
    for runner in runners.values():
        runner.allocate(1, 1)  # its check of the plain model comes before it breaks
    runners[role].breaks_behind = frozenset({result.output_ids[place]}) - set(request.prompt_ids)
    with pytest.raises(NonFiniteLogitsError, match=f"{role}: logits are not finite at step {place + 1} of"):
        list(decoder.run([request]))


def test_a_discarded_draft_may_break(pair: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    """Lockstep never sees what stands behind a cut, so it is no error there."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    asked = requests()
    expected = decode(pair[0], policy, asked, pair[1])
    seen = {token for request in asked for token in request.prompt_ids}
    seen |= {token for result in expected for token in result.output_ids}
    unseen = frozenset(range(VOCAB)) - seen
    for role in (0, 1):
        runners = [ModelRunner(pair[0], "student"), ModelRunner(pair[1], "teacher")]
        runners[role] = Breaking(pair[role], "breaking")
        runners[role].allocate(1, 1)
        runners[role].breaks_behind = unseen  # type: ignore[attr-defined]
        decoder = Decoder(runners[0], policy, runners[1], 4, verify=20)
        assert_same(sorted(decoder.run(asked), key=lambda result: result.index), expected)


class Recording(ModelRunner):
    """A model that notes the tokens of its steps."""

    def __init__(self, model: PreTrainedModel, name: str = "model") -> None:
        super().__init__(model, name)
        self.appended: set[int] = set()

    def append(self, tokens: Sequence[int], ids: Tensor | None = None) -> Tensor:
        self.appended |= set(tokens)
        return super().append(tokens, ids)


def test_states_of_a_discarded_draft_may_be_no_numbers(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    """A row's masked slots are read as far as the longest text, and NaN times a weight of 0 is NaN: the
    student's keys and values behind a cut, which may overflow in a narrow dtype, ended a run that lockstep
    completes."""
    policy = presets.s2t(KlTrigger(), threshold(*pair, KlTrigger(), 0.3))
    asked = requests()
    expected = decode(pair[0], policy, asked, pair[1])
    student = Recording(pair[0])
    list(Decoder(student, policy, ModelRunner(pair[1]), 4, verify=20).run(asked))
    seen = {token for request in asked for token in request.prompt_ids}
    seen |= {token for result in expected for token in result.output_ids}
    unseen = sorted(set(range(VOCAB)) - seen)
    assert student.appended & set(unseen), "some discarded draft is no token of a text"
    overflowing = copy.deepcopy(pair[0])
    with torch.no_grad():
        overflowing.get_input_embeddings().weight[unseen] = float("nan")
    assert_same(decode(overflowing, policy, asked, pair[1], verify=20), expected)
