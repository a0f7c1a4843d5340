"""Divergences against their definitions on lopsided distributions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from s2t_eval.method_table import TRIGGER_NAMES
from s2t_eval.models.vocabulary import line_ends
from s2t_eval.selection.policy import s2t
from s2t_eval.selection.router import Router
from s2t_eval.selection.step import Step, TextPositions
from s2t_eval.selection.triggers import (
    EntropyTrigger,
    KlTrigger,
    LineEntropyTrigger,
    MarginTrigger,
    PositionTrigger,
    RandomTrigger,
    TopEntropyTrigger,
    make_trigger,
)
from tests.harness_helpers import tokenizer

STUDENT = torch.tensor([[5.0, 1.0, 0.0, -1.0, -8.0], [0.1, 0.0, 0.0, 0.2, -0.3]])
TEACHER = torch.tensor([[0.0, 4.0, -2.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0, 9.0]])


def step(student: Tensor = STUDENT, teacher: Tensor = TEACHER) -> Step:
    return Step(student, lambda ids: teacher.gather(-1, ids), lambda: torch.tensor([0.25, 0.75]))


def test_kl_over_the_whole_vocabulary_is_scipy_s() -> None:
    p, q = STUDENT.double().softmax(-1).numpy(), TEACHER.double().softmax(-1).numpy()
    forward = KlTrigger("student_teacher", support=0).divergence(step())
    backward = KlTrigger("teacher_student", support=0).divergence(step())
    assert forward.tolist() == pytest.approx(entropy(p, q, axis=-1), rel=1e-4)
    assert backward.tolist() == pytest.approx(entropy(q, p, axis=-1), rel=1e-4)
    assert forward.tolist() != pytest.approx(backward.tolist(), rel=0.1)


def test_kl_renormalises_over_the_student_s_first_tokens() -> None:
    for row in range(2):
        ids = STUDENT[row].argsort(descending=True)[:3]
        p = STUDENT[row, ids].softmax(-1).numpy()
        q = TEACHER[row, ids].softmax(-1).numpy()
        found = KlTrigger(support=3).divergence(step())[row]
        assert float(found) == pytest.approx(float(entropy(p, q)), rel=1e-4)


def test_kl_of_equal_models_is_zero_and_tokens_ruled_out_do_not_count() -> None:
    masked = STUDENT.clone()
    masked[:, 2] = -math.inf
    for direction in ("student_teacher", "teacher_student"):
        trigger = KlTrigger(direction, support=0)  # type: ignore[arg-type]
        assert trigger.divergence(step(masked, masked)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_entropy_is_scipy_s_also_with_tokens_ruled_out() -> None:
    masked = STUDENT.clone()
    masked[:, 1] = -math.inf
    for logits in (STUDENT, masked, STUDENT + 300):
        expected = entropy(logits.double().softmax(-1).numpy(), axis=-1)
        assert EntropyTrigger().divergence(step(logits)).tolist() == pytest.approx(expected, rel=1e-4)


def test_the_entropy_of_the_first_64_counts_all_others_as_one_token() -> None:
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[0.2], [1.0], [5.0]]
    )
    probs = logits.double().softmax(-1).sort(descending=True).values
    lumped = torch.cat([probs[:, :64], probs[:, 64:].sum(-1, keepdim=True)], dim=-1)
    found = TopEntropyTrigger().divergence(step(logits))
    assert found.tolist() == pytest.approx(entropy(lumped.numpy(), axis=-1), rel=1e-4)
    exact = EntropyTrigger().divergence(step(logits))
    assert bool((found <= exact).all()) and float(found[0]) < 0.9 * float(exact[0])


def test_the_entropy_of_the_first_64_is_exact_for_small_vocabularies() -> None:
    found, exact = (trigger.divergence(step()) for trigger in (TopEntropyTrigger(), EntropyTrigger()))
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-4)


def test_margin_is_the_gap_of_the_first_two() -> None:
    probs = STUDENT.softmax(-1).sort(descending=True).values
    expected = (1 - (probs[:, 0] - probs[:, 1])).tolist()
    assert MarginTrigger().divergence(step()).tolist() == pytest.approx(expected, rel=1e-5)


def test_random_reads_the_rows_own_numbers() -> None:
    assert RandomTrigger().divergence(step()).tolist() == [0.25, 0.75]


def at(last_ids: list[int], num_tokens: list[int]) -> Step:
    """A step of two rows whose texts are so far."""
    positions = TextPositions(torch.tensor(last_ids), torch.tensor(num_tokens))
    return Step(STUDENT, None, lambda: torch.zeros(2), positions=lambda: positions)


def test_line_entropy_is_the_entropy_where_a_line_begins_and_zero_elsewhere() -> None:
    """GlimpRouter: at the first token of a text, and behind a token that ends a line."""
    entropies = EntropyTrigger().divergence(step()).tolist()
    trigger = LineEntropyTrigger(torch.tensor([False, False, True, False, False]))
    for last, count, begins in (
        ([4, 4], [0, 7], [1, 0]),
        ([2, 1], [3, 3], [1, 0]),
        ([2, 2], [1, 9], [1, 1]),
        ([99, 3], [0, 1], [1, 0]),  # a prompt may end with a token beyond the text vocabulary
    ):
        expected = [entropy * is_first for entropy, is_first in zip(entropies, begins, strict=True)]
        assert trigger.divergence(at(last, count)).tolist() == expected


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.25, 1 / 3, 1e300, -math.inf])
def test_one_step_fires_as_a_batch_of_them_does(threshold: float) -> None:
    """The tenth token has the divergence 0.1, in float32 slightly more. A batch is compared in float32, where
    the threshold 0.1 is the same number; beside a teacher on servers the step fired."""
    policy = s2t(PositionTrigger(), threshold)
    for t in range(12):
        divergence = PositionTrigger().divergence(at([0, 0], [t, t]))
        assert [policy.fires(value) for value in divergence.tolist()] == (divergence > threshold).tolist()


def test_position_is_larger_the_earlier() -> None:
    assert PositionTrigger().divergence(at([0, 0], [0, 3])).tolist() == [1.0, 0.25]


def test_line_ends_are_the_tokens_whose_text_ends_a_line() -> None:
    found = line_ends(tokenizer(), len(tokenizer()))
    one_by_one = [tokenizer().decode([i]).endswith("\n") for i in range(len(tokenizer()))]
    assert found.tolist() == one_by_one and 0 < sum(one_by_one) < 20


def test_constants() -> None:
    assert make_trigger("always").divergence(step()).tolist() == [math.inf, math.inf]
    assert make_trigger("never").divergence(step()).tolist() == [-math.inf, -math.inf]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_router_is_scaled_by_the_features_of_any_number_of_steps(steps: int) -> None:
    """One step has no deviation: torch gives nan for it, and so did a router trained on a single step."""
    features = torch.randn(steps, Router(8).mean.shape[0], generator=torch.Generator().manual_seed(0))
    router = Router(8)
    router.fit_scale(features)
    assert torch.equal(router.std, features.std(0).clamp(min=1e-3) if steps > 1 else torch.ones(18))
    assert torch.isfinite(router(features + 1)).all()


def test_every_name_makes_its_trigger() -> None:
    router = Router(8)
    made = [make_trigger(name, router=router, ends_line=torch.zeros(5).bool()) for name in TRIGGER_NAMES]
    assert [trigger.name for trigger in made] == list(TRIGGER_NAMES)
    assert make_trigger("kl", "teacher_student") == KlTrigger("teacher_student")
    assert [trigger.name for trigger in made if trigger.needs_teacher] == ["kl"]
    with pytest.raises(ValueError, match="trigger=router needs selector=FOLDER"):
        make_trigger("router")


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"trigger: expected one of kl, entropy, .*, got 'kll'"):
        make_trigger("kll")
    with pytest.raises(ValueError, match="kl_direction: expected 'student_teacher' or"):
        KlTrigger("forward")  # type: ignore[arg-type]
