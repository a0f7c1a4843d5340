"""R2R's labels of many problems, one file a problem and stage until all are there; then a label set.

Stages: the teacher's greedy texts, one prefill of each by the student, verdicts on the mismatches. As in
`training/label_collection.py` problems are processed in groups that start from empty slots, so a run that
was killed repeats one group and produces the same numbers as an uninterrupted run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from s2t_eval.engine import Decoder, Finish, ModelRunner, OnRound, Result
from s2t_eval.engine.packing import batches
from s2t_eval.engine.stop import AnswerOf, Decode
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.selection.policy import greedy
from s2t_eval.selection.top_tokens import TopTokens, top_tokens
from s2t_eval.training.label_collection import (
    Advance,
    CollectionFolder,
    LabelledProblem,
    generate_texts,
    require_finite_outputs,
    unfinished,
)
from s2t_eval.training.r2r.labels import LabelledText, R2RManifest, write_labels
from s2t_eval.training.r2r.mismatches import Continuer, Mismatch, TeacherText
from s2t_eval.training.r2r.rules import DIVERGENT, IDENTICAL, UNSCORED
from s2t_eval.training.r2r.settings import LabelSettings
from s2t_eval.training.r2r.verdicts import AnswersOf, Judge, by_answer, verdicts
from s2t_eval.training.step_states import by_chunks, step_states

KINDS = ("texts", "steps", "verdicts")
PREFILL_TOKENS = 1024
HEAD_CHUNK = 128
MISMATCHES_A_ROW = 4
"""Mismatches per row in a group. A larger group repeats more work after a kill; a smaller one leaves more
rows empty at its end."""


def write_texts(
    teacher: ModelRunner,
    problems: Sequence[LabelledProblem],
    work: CollectionFolder,
    rows: int,
    decode: Decode,
    answer_of: AnswerOf | None,
    advance: Advance,
    on_round: OnRound | None = None,
) -> None:
    """Write the teacher's greedy text of each problem that has none yet."""
    decoder = Decoder(teacher, greedy(), rows=rows, decode=decode, answer_of=answer_of)
    generate_texts(decoder, problems, work, "texts", _text, advance, on_round)


def _text(problem: LabelledProblem, result: Result) -> dict[str, Tensor]:
    """The file of a teacher's text."""
    return {
        "output_ids": torch.tensor(result.output_ids, dtype=torch.int32),
        "has_ended": torch.tensor([result.finish is not Finish.LENGTH]),
        "cost": torch.tensor((result.usage.tokens, result.usage.prefill_tokens)),
    }


def finished_texts(work: CollectionFolder, count: int) -> list[int]:
    """Numbers of the problems whose text has ended within its limit; only they are labelled.

    Raises:
        R2RError: no text has ended within its limit.
    """
    finished = [i for i in range(count) if bool(work.load("texts", i)["has_ended"])]
    if not finished:
        raise R2RError(
            f"labels: none of the teacher's {count} texts ended within its limit, and only whole ones are "
            "labelled; raise --max_gen_toks"
        )
    return finished


def read_steps(
    student: ModelRunner,
    problems: Sequence[LabelledProblem],
    finished: Sequence[int],
    work: CollectionFolder,
    num_logits: int,
    advance: Advance,
) -> None:
    """The student's most likely token, largest logits and last hidden state at every step, by one prefill."""
    sizes = {
        i: len(problems[i].request.prompt_ids) + len(work.load("texts", i)["output_ids"]) for i in finished
    }
    for group in unfinished(batches(finished, sizes, PREFILL_TOKENS), "steps", work, advance):
        outputs = [work.load("texts", i)["output_ids"].tolist() for i in group]
        prompts = [problems[i].request.prompt_ids for i in group]
        for i, hidden in zip(group, step_states(student, prompts, outputs), strict=True):
            steps = _student_outputs(student, hidden, num_logits)
            require_finite_outputs("student", student.name, problems[i], steps)
            work.save("steps", i, steps)
        advance(len(group))
    student.release()


@torch.inference_mode()
def _student_outputs(student: ModelRunner, hidden: Tensor, num_logits: int) -> dict[str, Tensor]:
    top = TopTokens(
        *by_chunks(lambda part: top_tokens(student.head(part), num_logits), hidden, size=HEAD_CHUNK)
    )
    return {
        "student_ids": top.indices[:, 0].int().cpu(),
        "top_logits": top.values.half().cpu(),
        "hidden": hidden.half().cpu(),
    }


@dataclass(frozen=True)
class Labeller:
    """How the mismatches of a set are labelled.

    Args:
        settings: rule and limits.
        answers_of: final answers, for the rule `answer` and for the validation; None where the problems have
            no rule for answers.
        judge: for the rule `judge` alone.
    """

    settings: LabelSettings
    answers_of: AnswersOf | None = None
    judge: Judge | None = None

    def validated(self, finished: Sequence[int]) -> set[int]:
        """Numbers of the problems at which the rule is checked by `answer`: evenly among all."""
        if self.settings.rule == "answer" or self.answers_of is None or not self.settings.validate:
            return set()
        count = max(1, round(self.settings.validate * len(finished)))
        return {finished[math.floor(i * len(finished) / count)] for i in range(count)}


def label_mismatches(
    continuer: Continuer,
    problems: Sequence[LabelledProblem],
    finished: Sequence[int],
    work: CollectionFolder,
    labeller: Labeller,
    advance: Advance,
) -> None:
    """Label the tokens of all texts that have no verdicts yet."""
    validated = labeller.validated(finished)
    groups = list(_mismatch_groups(problems, finished, work, MISMATCHES_A_ROW * continuer.rows))
    for group in unfinished(groups, "verdicts", work, advance):
        texts = [teacher_text(problems[i], i, work) for i in group]
        rule_verdicts = _verdicts_by_problem(continuer, texts, labeller, validate=False)
        answer_verdicts = _verdicts_by_problem(
            continuer, [t for t in texts if t.number in validated], labeller, validate=True
        )
        for i in group:
            columns = {
                **rule_verdicts[i],
                **{f"answer_{k}": v for k, v in answer_verdicts.get(i, {}).items()},
            }
            work.save("verdicts", i, columns)
        advance(len(group))
    continuer.teacher.release()


def _mismatch_groups(
    problems: Sequence[LabelledProblem], finished: Sequence[int], work: CollectionFolder, min_mismatches: int
) -> Iterator[list[int]]:
    """Groups of problems, in order, each with at least this many mismatches (the last may have fewer)."""
    group: list[int] = []
    num_mismatches = 0
    for i in finished:
        group.append(i)
        num_mismatches += len(teacher_text(problems[i], i, work).mismatches)
        if num_mismatches >= min_mismatches:
            yield group
            group, num_mismatches = [], 0
    if group:
        yield group


def teacher_text(problem: LabelledProblem, number: int, work: CollectionFolder) -> TeacherText:
    """A problem's text with the student's tokens."""
    output, student = work.load("texts", number)["output_ids"], work.load("steps", number)["student_ids"]
    return TeacherText(number, problem.request, output.tolist(), student.tolist())


def _verdicts_by_problem(
    continuer: Continuer, texts: Sequence[TeacherText], labeller: Labeller, validate: bool
) -> dict[int, dict[str, Tensor]]:
    """Problem number -> verdicts at every step, and their cost (the group's, with its first text)."""
    if not texts:
        return {}
    continuer.teacher.release()  # otherwise keys and values of earlier groups would be copied
    before = (continuer.cost.generated, continuer.cost.prefilled)
    mismatches = [Mismatch(text, t) for text in texts for t in text.mismatches]
    if validate:
        assert labeller.answers_of is not None
        mismatch_verdicts = by_answer(continuer, mismatches, labeller.answers_of)
    else:
        mismatch_verdicts = verdicts(
            continuer, mismatches, labeller.settings, labeller.answers_of, labeller.judge
        )
    after = (continuer.cost.generated, continuer.cost.prefilled)
    columns = {
        text.number: torch.full((len(text.output_ids),), IDENTICAL, dtype=torch.uint8) for text in texts
    }
    for mismatch, verdict in zip(mismatches, mismatch_verdicts, strict=True):
        columns[mismatch.text.number][mismatch.t] = verdict
    costs = [torch.tensor(after) - torch.tensor(before), *[torch.zeros(2, dtype=torch.long)] * len(texts)]
    return {
        number: {"verdicts": column, "cost": cost}
        for (number, column), cost in zip(columns.items(), costs, strict=False)
    }


def finish(
    work: CollectionFolder,
    problems: Sequence[LabelledProblem],
    finished: Sequence[int],
    manifest: R2RManifest,
) -> R2RManifest:
    """Make the label set from the files of all stages.

    Args:
        work: the working files.
        problems: in order.
        finished: numbers of those whose texts have ended.
        manifest: with models, data and settings; its counts, costs, validation and shards are filled in here.
    """
    texts, costs = [], {"teacher_generated": 0, "teacher_prefilled": 0, "student_prefilled": 0}
    for kind in ("continuations", "validation"):
        costs |= {f"{kind}_generated": 0, f"{kind}_prefilled": 0}
    for i in range(len(problems)):
        _add_cost(costs, "teacher", work.load("texts", i)["cost"])
    verdict_pairs: list[Tensor] = []
    for i in finished:
        text, steps, labels = (work.load(kind, i) for kind in KINDS)
        _add_cost(costs, "continuations", labels["cost"])
        prompt = torch.tensor(problems[i].request.prompt_ids, dtype=torch.int32)
        costs["student_prefilled"] += len(prompt) + len(text["output_ids"]) - 1
        if "answer_verdicts" in labels:
            _add_cost(costs, "validation", labels["answer_cost"])
            verdict_pairs.append(torch.stack([labels["verdicts"], labels["answer_verdicts"]]))
        identity = (problems[i].problem_id, problems[i].question_hash)
        columns = (prompt, text["output_ids"], steps["student_ids"], steps["top_logits"], steps["hidden"])
        texts.append(LabelledText(*identity, *columns, labels["verdicts"]))
    filled = replace(
        manifest,
        num_unfinished=len(problems) - len(finished),
        validation=agreement(torch.cat(verdict_pairs, dim=1)) if verdict_pairs else None,
        cost=costs,
    )
    return write_labels(work.folder, filled, texts)


def _add_cost(costs: dict[str, int], stage: str, cost: Tensor) -> None:
    for name, value in zip(("generated", "prefilled"), cost.tolist(), strict=True):
        costs[f"{stage}_{name}"] += value


def agreement(pairs: Tensor) -> dict[str, float]:
    """How far a rule agrees with the rule `answer` at the mismatches that both have a verdict on.

    Args:
        pairs: verdicts of both at every step, uint8 [2, steps].

    Returns:
        Number of mismatches, share that agrees, Cohen's kappa (0 where one side has a single verdict, for
        which kappa is undefined), and the share of divergent mismatches by each.
    """
    scored = ((pairs != IDENTICAL) & (pairs != UNSCORED)).all(0)
    rule_verdicts, answer_verdicts = pairs[:, scored].tolist()
    if not rule_verdicts:
        return {"mismatches": 0.0}
    count = len(rule_verdicts)
    agreement_share = sum(a == b for a, b in zip(rule_verdicts, answer_verdicts, strict=True)) / count
    is_undefined = len(set(rule_verdicts)) == 1 or len(set(answer_verdicts)) == 1
    kappa = 0.0 if is_undefined else float(cohen_kappa_score(rule_verdicts, answer_verdicts))
    shares = [side.count(DIVERGENT) / count for side in (rule_verdicts, answer_verdicts)]
    return {
        "mismatches": float(count),
        "agreement": agreement_share,
        "kappa": kappa,
        "divergent_by_rule": shares[0],
        "divergent_by_answer": shares[1],
    }
