"""Verdicts on the mismatches of some texts, by each of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from s2t_eval.engine import Finish, Result
from s2t_eval.training.r2r.judge import Encode, probabilities, turns
from s2t_eval.training.r2r.mismatches import (
    Continuer,
    Mismatch,
    Sides,
    TeacherText,
    both_sides,
    first_token,
    following_request,
    student_sentence,
    teacher_sentence,
)
from s2t_eval.training.r2r.rules import (
    DIVERGENT,
    NEUTRAL,
    UNSCORED,
    Sentence,
    is_neutral,
)
from s2t_eval.training.r2r.sentences import prefix_lengths
from s2t_eval.training.r2r.settings import LabelSettings
from s2t_eval.training.step_states import step_states

JUDGED_AT_ONCE = 16

AnswersOf = Callable[[int, Sequence[Sequence[int]]], list[str | None]]
"""Number of a problem, token ids of some texts -> their final answers; answers that are equal by
the task's own equality are the same string; None where a text has no answer."""


@dataclass(frozen=True)
class Judge:
    """The inputs of the rule `judge` besides the teacher.

    Args:
        encode: chat turns -> token ids.
        digits: token ids of 0 and 1.
    """

    encode: Encode
    digits: tuple[int, int]


def verdicts(
    continuer: Continuer,
    mismatches: Sequence[Mismatch],
    settings: LabelSettings,
    answers_of: AnswersOf | None,
    judge: Judge | None,
) -> list[int]:
    """NEUTRAL, DIVERGENT or UNSCORED for each of these mismatches, by the rule of the settings."""
    if settings.rule == "answer":
        assert answers_of is not None
        return by_answer(continuer, mismatches, answers_of)
    if settings.rule == "regret":
        return by_regret(continuer, mismatches, settings.min_regret)
    limit = settings.max_sentence
    continuations = continuer.to_end_of_sentence(mismatches, limit)
    texts = {mismatch.text.number: mismatch.text for mismatch in mismatches}
    lengths = {number: prefix_lengths(text.output_ids, continuer.decode) for number, text in texts.items()}
    sides = [
        both_sides(mismatch, continuation, continuer.decode, limit, lengths[mismatch.text.number])
        for mismatch, continuation in zip(mismatches, continuations, strict=True)
    ]
    if settings.rule == "judge":
        assert judge is not None
        return by_judge(continuer, mismatches, sides, judge)
    return by_reconvergence(continuer, mismatches, continuations, sides, settings.max_edit)


def by_reconvergence(
    continuer: Continuer,
    mismatches: Sequence[Mismatch],
    continuations: Sequence[Result | None],
    sides: Sequence[Sides],
    max_edit: float,
) -> list[int]:
    """The rule `reconverge`; what follows a sentence is generated only where the verdict depends on it."""
    decode = continuer.decode
    sentence_pairs = [
        (teacher_sentence(mismatch, side, decode), student_sentence(mismatch, continuation, side, decode))
        for mismatch, continuation, side in zip(mismatches, continuations, sides, strict=True)
    ]
    are_neutral = [is_neutral(teacher, student, max_edit) for teacher, student in sentence_pairs]
    # A sentence that was cut off at the limit has no next token: it stays undecided and counts as divergent.
    undecided = [i for i, neutral in enumerate(are_neutral) if neutral is None and sides[i].student.is_whole]
    results = continuer.continue_all([following_request(mismatches[i], sides[i]) for i in undecided])
    for i, result in zip(undecided, results, strict=True):
        teacher, student = sentence_pairs[i]
        following = first_token(result, mismatches[i].text.request.stop_ids, decode)
        are_neutral[i] = is_neutral(teacher, Sentence(student.text, following), max_edit)
    return [NEUTRAL if neutral else DIVERGENT for neutral in are_neutral]


def by_answer(continuer: Continuer, mismatches: Sequence[Mismatch], answers_of: AnswersOf) -> list[int]:
    """The rule `answer`.

    A mismatch is unscored where the continuation does not end within its limit, or where the teacher's own
    text has no answer, so that there is nothing to compare with. Where the student's token leads to a text
    that ends without an answer, the answers differ, and the token is divergent.
    """
    labels = []
    for mismatch, result in zip(mismatches, continuer.to_end_of_text(mismatches), strict=True):
        if result is not None and result.finish is Finish.LENGTH:
            labels.append(UNSCORED)
            continue
        student_ids = [*mismatch.student_output_ids, *([] if result is None else result.output_ids)]
        teacher_answer, student_answer = answers_of(
            mismatch.text.number, [mismatch.text.output_ids, student_ids]
        )
        labels.append(
            UNSCORED if teacher_answer is None else NEUTRAL if teacher_answer == student_answer else DIVERGENT
        )
    return labels


def by_regret(continuer: Continuer, mismatches: Sequence[Mismatch], min_regret: float) -> list[int]:
    """The rule `regret`: log p(teacher's token) - log p(student's token) > `min_regret`, by the teacher."""
    teacher = continuer.teacher
    is_divergent: dict[int, list[bool]] = {}
    texts: dict[int, TeacherText] = {mismatch.text.number: mismatch.text for mismatch in mismatches}
    for number, text in texts.items():
        continuer.cost.prefilled += len(text.request.prompt_ids) + len(text.output_ids) - 1
        (steps,) = step_states(teacher, [text.request.prompt_ids], [text.output_ids])
        teacher_ids, student_ids = (
            torch.tensor(token_ids, device=steps.device) for token_ids in (text.output_ids, text.student_ids)
        )
        with torch.inference_mode():
            logits = teacher.head_at(steps, torch.stack([teacher_ids, student_ids], dim=-1))
        is_divergent[number] = (logits[:, 0] - logits[:, 1] > min_regret).tolist()
    return [
        DIVERGENT if is_divergent[mismatch.text.number][mismatch.t] else NEUTRAL for mismatch in mismatches
    ]


def by_judge(
    continuer: Continuer, mismatches: Sequence[Mismatch], sides: Sequence[Sides], judge: Judge
) -> list[int]:
    """The rule `judge`: divergent where the teacher gives 1 more probability than 0."""
    decode, prompts = continuer.decode, []
    for mismatch, side in zip(mismatches, sides, strict=True):
        versions = [
            _bracketed(ids, mismatch.t - side.begin, decode) for ids in (side.teacher.ids, side.student.ids)
        ]
        prompts.append(judge.encode(turns(decode(mismatch.text.output_ids[: side.begin]), *versions)))
    divergence: list[float] = []
    with torch.inference_mode():
        for begin in range(0, len(prompts), JUDGED_AT_ONCE):
            batch = prompts[begin : begin + JUDGED_AT_ONCE]
            continuer.cost.prefilled += sum(map(len, batch))
            divergence += probabilities(continuer.teacher, batch, judge.digits)
    return [DIVERGENT if value > 0.5 else NEUTRAL for value in divergence]


def _bracketed(ids: Sequence[int], position: int, decode: Callable[[Sequence[int]], str]) -> str:
    """A sentence with double brackets around the first token at which two versions differ."""
    before, token, following_ids = (
        decode(ids[:position]),
        decode(ids[position : position + 1]),
        ids[position + 1 :],
    )
    return f"{before} [[{token.strip()}]]{decode(following_ids)}".strip()
