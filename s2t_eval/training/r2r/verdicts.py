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
from s2t_eval.training.r2r.settings import LabelSettings

JUDGED_AT_ONCE = 16

AnswersOf = Callable[[int, Sequence[Sequence[int]]], list[str | None]]
"""Number of a problem, token ids of some texts -> their final answers; equal ones, by the task's own
equality, are the same string, None is no answer."""


@dataclass(frozen=True)
class Judge:
    """What the rule `judge` needs beside the teacher.

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
    written = continuer.to_end_of_sentence(mismatches, limit)
    sides = [both_sides(one, w, continuer.decode, limit) for one, w in zip(mismatches, written, strict=True)]
    if settings.rule == "judge":
        assert judge is not None
        return by_judge(continuer, mismatches, sides, judge)
    return by_reconvergence(continuer, mismatches, written, sides, settings.max_edit)


def by_reconvergence(
    continuer: Continuer,
    mismatches: Sequence[Mismatch],
    written: Sequence[Result | None],
    sides: Sequence[Sides],
    max_edit: float,
) -> list[int]:
    """The rule `reconverge`; what follows a sentence is generated only where the verdict depends on it."""
    decode = continuer.decode
    pairs = [
        (teacher_sentence(one, side, decode), student_sentence(one, w, side, decode))
        for one, w, side in zip(mismatches, written, sides, strict=True)
    ]
    same = [is_neutral(teacher, student, max_edit) for teacher, student in pairs]
    # A sentence that was cut off at the limit has no next one: it stays unknown and counts as different.
    open_ones = [i for i, found in enumerate(same) if found is None and sides[i].student.is_whole]
    results = continuer.continue_all([following_request(mismatches[i], sides[i]) for i in open_ones])
    for i, result in zip(open_ones, results, strict=True):
        teacher, student = pairs[i]
        following = first_token(result, mismatches[i].text.request.stop_ids, decode)
        same[i] = is_neutral(teacher, Sentence(student.text, following), max_edit)
    return [NEUTRAL if found else DIVERGENT for found in same]


def by_answer(continuer: Continuer, mismatches: Sequence[Mismatch], answers_of: AnswersOf) -> list[int]:
    """The rule `answer`; a continuation without an end, or a text without an answer, is unscored."""
    found = []
    for one, result in zip(mismatches, continuer.to_end_of_text(mismatches), strict=True):
        before = one.text.output_ids[: one.t]
        if result is not None and result.finish is Finish.LENGTH:
            found.append(UNSCORED)
            continue
        student = before if result is None else [*before, one.student_id, *result.output_ids]
        own, other = answers_of(one.text.number, [one.text.output_ids, student])
        found.append(UNSCORED if own is None else NEUTRAL if own == other else DIVERGENT)
    return found


def by_regret(continuer: Continuer, mismatches: Sequence[Mismatch], min_regret: float) -> list[int]:
    """The rule `regret`: log p(teacher's token) - log p(student's token) > `min_regret`, by the teacher."""
    teacher, found = continuer.teacher, {}
    texts: dict[int, TeacherText] = {one.text.number: one.text for one in mismatches}
    for number, text in texts.items():
        ids = [*text.request.prompt_ids, *text.output_ids[:-1]]
        continuer.cost.prefilled += len(ids)
        (states,) = teacher.encode([ids])
        steps = states[len(text.request.prompt_ids) - 1 :]
        own, student = (torch.tensor(ids, device=steps.device) for ids in (text.output_ids, text.student_ids))
        with torch.inference_mode():
            logits = teacher.head_at(steps, torch.stack([own, student], dim=-1))
        found[number] = (logits[:, 0] - logits[:, 1] > min_regret).tolist()
    return [DIVERGENT if found[one.text.number][one.t] else NEUTRAL for one in mismatches]


def by_judge(
    continuer: Continuer, mismatches: Sequence[Mismatch], sides: Sequence[Sides], judge: Judge
) -> list[int]:
    """The rule `judge`: divergent where the teacher gives 1 more probability than 0."""
    decode, prompts = continuer.decode, []
    for one, side in zip(mismatches, sides, strict=True):
        shown = [_bracketed(ids, one.t - side.begin, decode) for ids in (side.teacher.ids, side.student.ids)]
        prompts.append(judge.encode(turns(decode(one.text.output_ids[: side.begin]), *shown)))
    values: list[float] = []
    with torch.inference_mode():
        for begin in range(0, len(prompts), JUDGED_AT_ONCE):
            part = prompts[begin : begin + JUDGED_AT_ONCE]
            continuer.cost.prefilled += sum(map(len, part))
            values += probabilities(continuer.teacher, part, judge.digits)
    return [DIVERGENT if value > 0.5 else NEUTRAL for value in values]


def _bracketed(ids: Sequence[int], position: int, decode: Callable[[Sequence[int]], str]) -> str:
    """A sentence with the token at which two versions part in double brackets."""
    before, token, behind = decode(ids[:position]), decode(ids[position : position + 1]), ids[position + 1 :]
    return f"{before} [[{token.strip()}]]{decode(behind)}".strip()
