"""RLKD on the problems of a label set (`s2t-eval rlkd`): references, answer rule, reward, training."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval.api.task import Task

from s2t_eval.engine import ModelRunner
from s2t_eval.engine.stop import Decode
from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.methods.distilled import DistilInfo
from s2t_eval.methods.questions import reply_ids
from s2t_eval.models.vocabulary import stop_ids
from s2t_eval.pipelines.collect_labels import SOLUTION_FIELDS
from s2t_eval.pipelines.prompts import (
    TaskProblems,
    TrainingDataError,
    first_text,
    question_of,
    task_problems,
)
from s2t_eval.pipelines.task_filters import Answered, filtered_responses
from s2t_eval.training.contamination import question_hash, require_no_evaluation_prompts
from s2t_eval.training.distil.teacher_rollouts import RolloutCost, generate_teacher_rollouts
from s2t_eval.training.labels import LabelSet, Trajectory
from s2t_eval.training.rlkd.alignment import Aligner, RuleAligner
from s2t_eval.training.rlkd.cost import JudgeCost
from s2t_eval.training.rlkd.llm import LlmAligner, LlmStructurer
from s2t_eval.training.rlkd.problems import Prepared, RlkdError, RlkdProblem, Text, is_right, prepare
from s2t_eval.training.rlkd.references import NeededOfSides, NeededReferences
from s2t_eval.training.rlkd.rewarder import Rewarder
from s2t_eval.training.rlkd.sampling import TextLimits
from s2t_eval.training.rlkd.settings import RlkdSettings
from s2t_eval.training.rlkd.structure import RuleStructurer, Structurer
from s2t_eval.training.rlkd.train import TrainingData, train_rlkd
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.teacher import TrainingTeacher
from s2t_eval.training.work_folder import work_folder

METRIC = "exact_match"
SOLUTIONS = "the problems' own solutions"


class TaskGrade:
    """Whether final answers are right, by the filters and the scoring of a task.

    Args:
        task: a task whose scoring has the metric `exact_match`.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, problem: RlkdProblem, texts: Sequence[Text]) -> list[float]:
        """1 or 0 for each text.

        Raises:
            RlkdError: the task's scoring gives no `exact_match`.
        """
        answered = [
            Answered(problem.document, 0, [GeneratedText(text.content, text.is_truncated)]) for text in texts
        ]
        by_filter = filtered_responses(self.task, answered)
        return [self._verdict(problem, next(iter(filtered.values()))) for filtered in by_filter]

    def _verdict(self, problem: RlkdProblem, filtered: Any) -> float:
        value = self.task.process_results(problem.document, [filtered]).get(METRIC)
        if value is None:
            raise RlkdError(
                f"labels: expected problems of a task whose answers are scored by {METRIC}, got "
                f"{self.task.config.task}, whose scoring has none; use labels of another task"
            )
        return float(value)


def train(
    labels: LabelSet,
    student: Student,
    tokenizer: Any,
    teacher: TrainingTeacher | None,
    settings: RlkdSettings,
    loop: LoopSettings,
    out: Path,
) -> DistilInfo:
    """Train the student on the problems of a label set, and write the folder `out`.

    Args:
        labels: label set of this student; its problems are those of a task.
        student: the student.
        tokenizer: its tokenizer.
        teacher: writes the references; its weights are freed then, unless it judges texts too. None: the
            references are the problems' own solutions.
        settings: rewards, sampling and adapter.
        loop: settings of the training loop.
        out: folder to write.

    Raises:
        LabelError: the labels belong to another student or tokenizer, or there are too few.
        OverlapError: one of the problems is an evaluation problem.
        RlkdError: the problems have no answer rule, no solution or no steps.
        ValueError: the settings need a teacher and there is none.
        TrainingError, WriteError: see `train_rlkd`.
    """
    labels.require_student(student.fingerprint, student.vocabulary)
    settings.require_teacher(teacher is not None)
    require_no_evaluation_prompts([row.prompt_ids for row in labels], tokenizer.decode)
    source = _problems_of(labels)
    limits = TextLimits(
        int(labels.manifest.prompt["max_gen_toks"]),
        stop_ids(tokenizer, student.model.generation_config),
        _stop_strings(source.task),
    )
    identity = {
        "labels": labels.hash,
        **student.identity,
        **({"teacher": None} if teacher is None else teacher.identity),
        "settings": asdict(settings),
        "until": list(limits.until),
    }
    folder = work_folder(out) / "teacher_texts"
    problems = LabelledProblems(labels, source)
    sides = [
        Side([row.problem_id for row in rows], limit)
        for rows, limit in zip(
            labels.split(settings.held_out), (settings.limit, settings.max_held_out), strict=True
        )
    ]
    grade = TaskGrade(source.task)
    references, cost = _references(problems, sides, student, teacher, limits, settings, grade, folder)
    judges = _judges(teacher, settings, limits)
    if teacher is not None and "llm" not in (settings.structurer, settings.aligner):
        teacher.release()
    train_side, held_out = _prepared_sides(problems, sides, references, judges, grade, teacher, settings)
    decode = functools.partial(tokenizer.decode, skip_special_tokens=True)
    data = _training_data(train_side, held_out, labels, limits, decode, teacher, cost)
    rewarder = Rewarder(judges.structurer, judges.aligner, grade, settings, judges.cost)
    return train_rlkd(student, tokenizer, data, rewarder, settings, loop, out, identity)


class Side(NamedTuple):
    """The problems of one side."""

    problem_ids: list[str]
    limit: int | None
    """how many of them are used; None: all whose reference can be"""


class Reference(NamedTuple):
    """The solution that texts on a problem are compared with."""

    text: str
    is_whole: bool = True


class LabelledProblems:
    """The problems of a label set with their records in the task.

    Args:
        labels: the label set.
        source: the task's problems.

    Raises:
        RlkdError: the task's problem of some number is another one than when the labels were collected.
    """

    def __init__(self, labels: LabelSet, source: TaskProblems) -> None:
        self.labels = labels
        self.task = source.task
        self.rows = {row.problem_id: row for row in labels}
        self.documents = {row.problem_id: _document(labels, source, row) for row in labels}

    def with_reference(self, problem_id: str, reference: str, is_whole: bool = True) -> RlkdProblem:
        """A problem with its reference."""
        row, document = self.rows[problem_id], self.documents[problem_id]
        return RlkdProblem(
            problem_id,
            question_of(document, self.task),
            tuple(row.prompt_ids.tolist()),
            reference,
            document,
            row.source,
            is_whole=is_whole,
        )


def _prepared_sides(
    problems: LabelledProblems,
    sides: Sequence[Side],
    references: Mapping[str, Reference],
    judges: Judges,
    grade: TaskGrade,
    teacher: TrainingTeacher | None,
    settings: RlkdSettings,
) -> list[Prepared]:
    """The problems that are trained on and those that are held out, with the steps of their references."""
    is_verified = teacher is not None and not settings.unverified
    return [
        prepare(
            (problems.with_reference(name, *references[name]) for name in side.problem_ids),
            judges.structurer if settings.structure_weight else None,
            grade,
            is_verified,
            side.limit,
        )
        for side in sides
    ]


def _training_data(
    train_side: Prepared,
    held_out: Prepared,
    labels: LabelSet,
    limits: TextLimits,
    decode: Decode,
    teacher: TrainingTeacher | None,
    cost: RolloutCost,
) -> TrainingData:
    """What `train_rlkd` needs to generate texts and to describe where they come from."""
    return TrainingData(
        train_side.problems,
        held_out.problems,
        _left_out(train_side, held_out),
        limits,
        decode,
        asdict(labels.manifest),
        "" if teacher is None else teacher.fingerprint,
        SOLUTIONS if teacher is None else teacher.name,
        cost,
    )


def _problems_of(labels: LabelSet) -> TaskProblems:
    """The task of the label set's problems, with its training problems.

    Raises:
        RlkdError: the problems are not those of a task.
    """
    name = str(labels.manifest.data["source"])
    try:
        return task_problems(name)
    except TrainingDataError as error:
        raise RlkdError(
            f"labels: expected problems of a task (`s2t-eval collect --task NAME`), whose rule grades "
            f"answers, got those of {name} ({error})"
        ) from error


def _stop_strings(task: Task) -> tuple[str, ...]:
    until = (task.config.generation_kwargs or {}).get("until") or []
    return (until,) if isinstance(until, str) else tuple(until)


def _document(labels: LabelSet, source: TaskProblems, row: Trajectory) -> dict[str, Any]:
    """The record of a labelled problem.

    Raises:
        RlkdError: the task's problem of this number is another one than when the labels were collected.
    """
    number = int(row.problem_id.rpartition("/")[2])
    document = source.docs[number] if number < len(source.docs) else None
    if document is None or question_hash(question_of(document, source.task)) != row.question_hash:
        raise RlkdError(
            f"labels: problem {row.problem_id} is not that of the task {labels.manifest.data['source']} any "
            "more: its data have changed; collect the labels anew"
        )
    return document


def _references(
    problems: LabelledProblems,
    sides: Sequence[Side],
    student: Student,
    teacher: TrainingTeacher | None,
    limits: TextLimits,
    settings: RlkdSettings,
    grade: TaskGrade,
    folder: Path,
) -> tuple[dict[str, Reference], RolloutCost]:
    """Problem id -> its solution, or the greedy text that the teacher writes (once, into `folder`).

    The teacher writes texts in the order of the labels until each side has its limit of right ones.

    Raises:
        RlkdError: a problem has no solution and there is no teacher.
    """
    if teacher is not None:
        return _teacher_texts(problems, sides, student, teacher, limits, settings, grade, folder)
    solutions: dict[str, Reference] = {}
    for problem_id, document in problems.documents.items():
        solution = first_text(document, SOLUTION_FIELDS)
        if solution is None:
            raise RlkdError(
                f"labels: problem {problem_id} has no solution (read from {', '.join(SOLUTION_FIELDS)}); "
                "name a --teacher, whose texts are then the references"
            )
        solutions[problem_id] = Reference(solution)
    return solutions, RolloutCost()


def _teacher_texts(
    problems: LabelledProblems,
    sides: Sequence[Side],
    student: Student,
    teacher: TrainingTeacher,
    limits: TextLimits,
    settings: RlkdSettings,
    grade: TaskGrade,
    folder: Path,
) -> tuple[dict[str, Reference], RolloutCost]:
    own_limits = TextLimits(limits.max_new_tokens, teacher.stop_ids, limits.until)

    def reference(ids: Sequence[int]) -> Reference:
        text = teacher.decode(ids)
        return Reference(limits.cut(text), own_limits.is_whole(ids, text))

    def is_usable(problem_id: str, ids: Sequence[int]) -> bool:
        return settings.unverified or is_right(problems.with_reference(problem_id, *reference(ids)), grade)

    labels = problems.labels
    identity = {"labels": labels.hash, **teacher.identity, "until": list(limits.until)}
    cost = RolloutCost()
    texts = generate_teacher_rollouts(
        teacher,
        student.text_vocab,
        list(labels),
        own_limits.request,
        folder,
        identity,
        settings.rows,
        NeededOfSides([NeededReferences(*side, is_usable) for side in sides]),
        cost=cost,
    )
    return {problem_id: reference(ids) for problem_id, ids in texts.items()}, cost


class Judges(NamedTuple):
    """What divides texts into steps and what compares steps."""

    structurer: Structurer
    aligner: Aligner
    cost: JudgeCost
    """what the prompted model of either costs"""


def _judges(teacher: TrainingTeacher | None, settings: RlkdSettings, limits: TextLimits) -> Judges:
    """The structurer and the aligner of the settings."""
    structurer: Structurer = RuleStructurer()
    aligner: Aligner = RuleAligner()
    cost = JudgeCost()
    if teacher is None:
        return Judges(structurer, aligner, cost)
    runner = ModelRunner(teacher.model, teacher.name)
    if settings.structurer == "llm":
        structurer = LlmStructurer(
            runner,
            teacher.encode,
            teacher.decode,
            teacher.stop_ids,
            2 * limits.max_new_tokens,
            settings.rows,
            cost,
        )
    if settings.aligner == "llm":
        yes, no = (reply_ids(teacher.tokenizer, (word, word.capitalize())) for word in ("yes", "no"))
        aligner = LlmAligner(runner, teacher.encode, yes, no, settings.rows, cost)
    return Judges(structurer, aligner, cost)


def _left_out(*sides: Prepared) -> dict[str, int]:
    return {
        "with a wrong or unfinished reference": sum(side.num_wrong for side in sides),
        "with a reference without steps": sum(side.num_without_steps for side in sides),
    }
