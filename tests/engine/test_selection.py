"""Selection in the batch engine is selection one text at a time, every candidate encoded afresh."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.selection import policy as presets
from s2t_eval.selection.policy import Policy, greedy
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import LookaheadScore
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import (
    ConstantTrigger,
    EntropyTrigger,
    KlTrigger,
    LineEntropyTrigger,
    MarginTrigger,
    PositionTrigger,
    RandomTrigger,
    Trigger,
)
from tests.twins import (
    VOCAB,
    decode,
    hidden_after,
    logits_after,
    outputs,
    prompts,
    readout_pick,
    requests,
    slow_decode,
    takeover_pick,
    teacher_pick,
    tiny_model,
)

ALWAYS = ConstantTrigger("always")
NEVER = ConstantTrigger("never")


def readout(model: PreTrainedModel, seed: int = 5) -> Readout:
    generator = torch.Generator().manual_seed(seed)
    return Readout(torch.randn(16, model.config.hidden_size, generator=generator))


def median_divergence(
    model: PreTrainedModel, trigger: Trigger, teacher: PreTrainedModel | None = None
) -> float:
    """A threshold at which about half of the steps fire."""
    results = decode(model, greedy(), requests(), teacher, observe=[trigger])
    values = sorted(value for result in results for value in result.observed[0])
    return values[len(values) // 2]


# ---------------------------------------------------------------- branches in place


@pytest.mark.parametrize("k", [1, 2, 8])
def test_branched_states_are_those_of_separate_sequences(student: PreTrainedModel, k: int) -> None:
    slots = ModelRunner(student)
    slots.allocate(4, 100)
    texts = [list(prompt) for prompt in prompts(4)]
    with torch.inference_mode():
        states, _ = slots.prefill(range(4), texts)
        ids = slots.head(states).argmax(-1)
        fired = [0, 2, 3]
        candidates = torch.stack([torch.arange(5, 5 + k), torch.arange(40, 40 + k), torch.arange(k)])
        ids[fired] = candidates[:, 0]
        hidden = slots.branch(ids, fired, candidates)
    others = hidden[4:].view(3, k - 1, hidden.shape[-1])
    for i, row in enumerate(fired):
        for lane in range(k):
            expected = hidden_after(student, [*texts[row], int(candidates[i, lane])])
            found = hidden[row] if lane == 0 else others[i, lane - 1]
            torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)
    expected = hidden_after(student, [*texts[1], int(ids[1])])
    torch.testing.assert_close(hidden[1], expected, atol=2e-4, rtol=2e-4)


def test_text_after_a_commit_has_forgotten_the_losers(student: PreTrainedModel) -> None:
    slots = ModelRunner(student)
    slots.allocate(2, 60)
    texts = [list(prompt[:20]) for prompt in prompts(6)[-2:]]
    with torch.inference_mode():
        slots.prefill(range(2), texts)
        slots.branch(torch.tensor([3, 9]), [0, 1], torch.tensor([[3, 4, 5], [9, 8, 7]]))
        slots.commit([0, 1], [2, 1], [5, 8])
        hidden = slots.append([11, 12])
    for row, tail in enumerate(([5, 11], [8, 12])):
        expected = hidden_after(student, [*texts[row], *tail])
        torch.testing.assert_close(hidden[row], expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    "trigger", [pytest.param(EntropyTrigger(), marks=pytest.mark.slow), MarginTrigger(), ALWAYS]
)
def test_readout_selection_is_its_slow_twin(student: PreTrainedModel, trigger: Trigger) -> None:
    threshold = 0.0 if trigger is ALWAYS else median_divergence(student, trigger)
    scorer = readout(student)
    policy = Policy(
        "s2t_local", trigger, threshold, LocalSelector(LookaheadScore(scorer)), top_k=5, warmup_tokens=2
    )
    expected = slow_decode(student, policy, requests(4), readout_pick(student, scorer))
    for rows in (1, 3):
        results = decode(student, policy, requests(4), rows=rows)
        assert outputs(results) == expected
        assert sum(result.usage.flips for result in results) > 0


def test_branching_costs_no_forward_but_at_a_text_s_last_token(student: PreTrainedModel) -> None:
    policy = Policy("x", ALWAYS, 0.0, LocalSelector(LookaheadScore(readout(student))))
    for result in decode(student, policy, requests()):
        assert result.usage.triggers == result.usage.tokens
        assert result.usage.forwards == result.usage.tokens + 1


# ---------------------------------------------------------------- limits as oracles


def test_one_candidate_is_greedy(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    expected = outputs(decode(student, greedy(), requests()))
    by_teacher = presets.s2t(ALWAYS, 0.0, top_k=1)
    assert outputs(decode(student, by_teacher, requests(), teacher)) == expected
    by_readout = Policy("x", ALWAYS, 0.0, LocalSelector(LookaheadScore(readout(student))), top_k=1)
    assert outputs(decode(student, by_readout, requests())) == expected


def test_a_trigger_that_never_fires_is_greedy(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    expected = outputs(decode(student, greedy(), requests()))
    for policy in (presets.s2t(NEVER, 0.0), presets.s2t(KlTrigger(), 1e9)):
        assert outputs(decode(student, policy, requests(), teacher)) == expected


def test_all_candidates_at_every_step_is_the_teacher(
    student: PreTrainedModel, teacher: PreTrainedModel
) -> None:
    expected = outputs(decode(teacher, greedy(), requests()))
    for policy in (presets.s2t(ALWAYS, 0.0, top_k=VOCAB), presets.takeover(ALWAYS, 0.0)):
        assert outputs(decode(student, policy, requests(), teacher)) == expected


# ---------------------------------------------------------------- the teacher


@pytest.mark.parametrize("direction", ["student_teacher", "teacher_student"])
def test_kl_selection_is_its_slow_twin(
    student: PreTrainedModel, teacher: PreTrainedModel, direction: str
) -> None:
    trigger = KlTrigger(direction, support=10)  # type: ignore[arg-type]
    threshold = median_divergence(student, trigger, teacher)
    policy = presets.s2t(trigger, threshold, top_k=6, warmup_tokens=3)
    expected = slow_decode(student, policy, requests(4), teacher_pick(teacher), teacher)
    results = decode(student, policy, requests(4), teacher, rows=3)
    assert outputs(results) == expected
    fired = sum(result.usage.triggers for result in results)
    assert 0 < fired < sum(result.usage.tokens for result in results)


def test_takeover_is_its_slow_twin(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    threshold = median_divergence(student, KlTrigger(), teacher)
    policy = presets.takeover(KlTrigger(), threshold)
    expected = slow_decode(student, policy, requests(4), takeover_pick(teacher), teacher)
    assert outputs(decode(student, policy, requests(4), teacher, rows=3)) == expected


def test_a_local_trigger_asks_the_teacher_only_where_it_fires(
    student: PreTrainedModel, teacher: PreTrainedModel
) -> None:
    trigger = EntropyTrigger()
    policy = presets.s2t(trigger, median_divergence(student, trigger), top_k=6)
    expected = slow_decode(student, policy, requests(4), teacher_pick(teacher))
    results = decode(student, policy, requests(4), teacher, rows=3)
    assert outputs(results) == expected
    for result, request in zip(results, requests(4), strict=True):
        assert result.usage.teacher_calls == result.usage.triggers
        last = max((step.t for step in result.steps), default=0)
        # each token of the text is computed once, some beginnings are not even that
        assert result.usage.teacher_tokens <= len(request.prompt_ids) + last
    assert any(result.usage.triggers < result.usage.tokens for result in results)


@pytest.mark.parametrize(
    ("trigger", "threshold"),
    [
        (LineEntropyTrigger(torch.arange(VOCAB) % 3 == 0), 0.0),  # every line's first token
        (PositionTrigger(), 1 / 9.5),  # the first nine tokens
    ],
    ids=["line_entropy", "position"],
)
def test_triggers_of_the_position_are_their_slow_twins(trigger: Trigger, threshold: float) -> None:
    """One by one, with rows that are refilled, and all at once: each row has a position of its own.

    Their values were compared with their definitions, and no text that they steer with any other.
    """
    student, teacher = tiny_model("qwen2", seed=0), tiny_model("qwen2", seed=1, hidden_size=48)
    policy = presets.takeover(trigger, threshold, warmup_tokens=1)
    expected = slow_decode(student, policy, requests(6), takeover_pick(teacher))
    for rows in (1, 3, 6):
        results = decode(student, policy, requests(6), teacher, rows=rows)
        assert outputs(results) == expected
    fired = [step.t for result in results for step in result.steps]
    assert max(fired) >= 8 and len(fired) < sum(result.usage.tokens for result in results)
    assert sum(result.usage.flips for result in results) > 0


def test_lockstep_and_catching_up_pick_the_same(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    trigger = EntropyTrigger()
    policy = presets.s2t(trigger, median_divergence(student, trigger))
    alone = decode(student, policy, requests(), teacher)
    lockstep = decode(student, policy, requests(), teacher, observe=[KlTrigger()])
    assert outputs(lockstep) == outputs(alone)


def test_teacher_with_more_rows_in_its_head_is_cut_to_the_text(student: PreTrainedModel) -> None:
    """Qwen2.5 pads its vocabularies to 151,936 or 152,064 rows by size."""
    wide = ModelRunner(student, "wide", text_vocab=VOCAB - 20)
    narrow = ModelRunner(student, "narrow", text_vocab=VOCAB - 20)
    policy = presets.s2t(KlTrigger(support=0), -1.0, top_k=VOCAB - 20)
    results = list(Decoder(narrow, policy, wide).run(requests(4)))
    assert all(step.divergence == pytest.approx(0, abs=1e-5) for r in results for step in r.steps)
    assert all(max(result.output_ids) < VOCAB - 20 for result in results)


def test_records_hold_what_stood_to_choice(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    policy = presets.s2t(KlTrigger(), median_divergence(student, KlTrigger(), teacher), top_k=4)
    for result, request in zip(decode(student, policy, requests(4), teacher), requests(4), strict=True):
        for step in result.steps:
            text = [*request.prompt_ids, *result.output_ids[: step.t]]
            ours, theirs = logits_after(student, text), logits_after(teacher, text)
            assert step.candidates == ours.topk(4).indices.tolist()
            assert step.greedy == step.candidates[0]
            torch.testing.assert_close(
                torch.tensor(step.scores), theirs.softmax(-1)[step.candidates], atol=1e-4, rtol=1e-3
            )
            assert step.picked == step.candidates[step.scores.index(max(step.scores))]
            assert result.output_ids[step.t] == step.picked
            assert step.divergence > policy.trigger_threshold


def test_warmup_keeps_the_beginning(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    policy = presets.takeover(ALWAYS, 0.0, warmup_tokens=5)
    greedy_texts = outputs(decode(student, greedy(), requests()))
    for text, result in zip(greedy_texts, decode(student, policy, requests(), teacher), strict=True):
        assert result.output_ids[:5] == text[:5]
        assert [step.t for step in result.steps] == list(range(5, len(result.output_ids)))


def test_random_trigger_fires_by_the_request_s_seed(
    student: PreTrainedModel, teacher: PreTrainedModel
) -> None:
    policy = presets.s2t(RandomTrigger(), 0.7)
    asked = [replace(request, seed=i) for i, request in enumerate(requests())]
    small = decode(student, policy, asked, teacher, rows=2)
    large = decode(student, policy, asked, teacher, rows=10)
    assert [r.steps for r in small] != [[] for _ in small]
    assert [[s.t for s in r.steps] for r in small] == [[s.t for s in r.steps] for r in large]
    fired = sum(r.usage.triggers for r in small) / sum(r.usage.tokens for r in small)
    assert 0.15 < fired < 0.45


def test_observing_changes_no_text(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    observed = decode(student, greedy(), requests(), teacher, observe=[KlTrigger(), EntropyTrigger()])
    assert outputs(observed) == outputs(decode(student, greedy(), requests()))
    assert all(len(values) == r.usage.tokens for r in observed for values in r.observed)


# ---------------------------------------------------------------- mistakes


def test_a_policy_that_needs_a_teacher_says_so(student: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="policy s2t: it needs a teacher"):
        decode(student, presets.s2t(KlTrigger(), 1.0), [Request((1,), 2)])


def test_more_candidates_than_tokens(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match=f"top_k: expected at most .* {VOCAB} tokens, got 121"):
        decode(student, presets.s2t(ALWAYS, 0.0, top_k=121), requests(), teacher)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 0}, "top_k: expected at least 1"),
        ({"warmup_tokens": -1}, "warmup_tokens: expected 0 or more"),
        ({"trigger_threshold": float("nan")}, "threshold: expected a number"),
        ({"selector": None}, "trigger 'kl' needs a selector"),
    ],
)
def test_impossible_policies(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(presets.s2t(KlTrigger(), 1.0), **change)  # type: ignore[arg-type]
