"""Stages before training: models of the hub, the thresholds of triggers, and sets of labels."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from s2t_eval.pipelines.settings import CalibrationSource
from s2t_eval.reproduce import parts
from s2t_eval.reproduce.commands import options, posing
from s2t_eval.reproduce.stage_list import BOTH, StageList
from s2t_eval.reproduce.stages import Stage, merged_fields
from s2t_eval.reproduce.work import Work
from s2t_eval.training.work_folder import unfinished_folder

SOLUTION = "solution"
"""The teacher's context in `s2t-eval collect` that is no file: each problem's own solution."""


def add_downloads(stages: StageList) -> None:
    """Models of the hub with a revision are fetched: the commands have no option for one."""
    for role in BOTH:
        name, revision = (getattr(stages.recipe.models, field) for field in (role, f"{role}_revision"))
        if name is None or revision is None:
            continue
        output = stages.out / "models" / name.rsplit("/", 1)[-1]
        if any(stage.output == output for stage in stages.in_order):  # two revisions of one model
            output = output.with_name(f"{output.name}-{role}")
        place = ("--revision", revision, "--local-dir", str(output))
        command = ("huggingface_hub.cli.hf", "download", name, *place)
        stages.add(Stage(f"download.{role}", "download", command, output, [name, revision]), role)


def add_calibration(stages: StageList, part: parts.CalibrationPart) -> None:
    """The thresholds that texts of the student give, with a teacher also those that depend on it."""
    roles = BOTH if stages.recipe.models.teacher is not None else BOTH[:1]
    output = stages.out / "calibration.json"
    words = ["s2t_eval", "calibrate", *stages.student_options(), *posing(stages.recipe, part.problems)]
    words += stages.served_teacher_options() if len(roles) > 1 else []
    words += [*options(part, "problems"), "--out", str(output)]
    count = stages.num_problems(part.problems, CalibrationSource.limit)
    fields = merged_fields(stages.model_fields(*roles), stages.problem_fields(part.problems))
    fields |= stages.labelling_fields(words, count, roles)
    fields["scratch"] = (unfinished_folder(output),)
    stage = Stage("calibration", "calibrate", output=output, part=asdict(part), **fields)
    stages.add(stage, "calibration")


def add_labels(stages: StageList, part: parts.LabelsPart, problems: parts.Problems) -> None:
    """The teacher's scores on texts of these problems, from which selectors and students are trained."""
    output = stages.out / "labels"
    words = _collect_command(stages, part, problems, output)
    fields = merged_fields(
        _collect_fields(stages, part, problems), stages.file_fields(part.selector, *part.reuse)
    )
    fields |= stages.labelling_fields(words, stages.num_problems(problems), BOTH)
    stages.add(Stage("labels", "collect", output=output, part=asdict(part), **fields), "labels")


def _collect_command(
    stages: StageList, part: parts.LabelsPart, problems: parts.Problems, output: Path
) -> tuple[str, ...]:
    """The command that collects labels on these problems."""
    words = ["s2t_eval", "collect", *stages.student_options(), *posing(stages.recipe, problems)]
    words += [*stages.served_teacher_options(), *options(part, "problems", "folder")]
    return (*words, "--out", str(output))


def _collect_fields(stages: StageList, part: parts.LabelsPart, problems: parts.Problems) -> dict[str, Any]:
    """Fields of a stage that collects labels on these problems, but for the selector that writes them."""
    context = None if part.teacher_context == SOLUTION else part.teacher_context
    files = stages.file_fields(context, *part.evaluation)
    return merged_fields(stages.model_fields(*BOTH), stages.problem_fields(problems), files)


def add_round(stages: StageList, name: str, part: parts.RoundPart, seed: int) -> None:
    """The labels' problems, or the first of them, once more, on texts that a selector writes."""
    labels = stages.recipe.labels
    assert labels is not None and labels.problems is not None
    writer = stages.made[part.selector, seed]
    problems = replace(labels.problems, limit=part.limit or labels.problems.limit)
    stage_name = stages.seeded_name(name, seed)
    output = stages.out / "rounds" / stage_name
    on_own_texts = replace(
        labels, selector=str(writer.place), selector_trigger=part.trigger, selector_tau=part.tau, reuse=()
    )
    words = _collect_command(stages, on_own_texts, problems, output)
    fields = _collect_fields(stages, labels, problems)
    fields = merged_fields(fields, writer.fields)
    work = Work.of_texts(stages.num_problems(problems), (*BOTH, "student"), stages.recipe)
    settings = [asdict(labels), asdict(part)]
    stages.add(Stage(stage_name, "collect", words, output, settings, work=work, **fields), name, seed)


def add_tah_labels(stages: StageList, name: str, part: parts.TahPart) -> None:
    """Which tokens of the problems' solutions the student predicts, for Think-at-Hard."""
    output = stages.out / "trained" / f"{name}-labels"
    words = ["s2t_eval", "tah", "label", *stages.student_options(), *posing(stages.recipe, part.problems)]
    work = Work.of_training(stages.num_problems(part.problems), 1, BOTH[:1], stages.recipe)
    fields = {**stages.model_fields("student"), **stages.problem_fields(part.problems)}
    fields["scratch"] = (unfinished_folder(output),)
    command, settings = (*words, "--out", str(output)), asdict(part.problems)
    stage_name = f"{name}.labels"
    stages.add(Stage(stage_name, "tah label", command, output, settings, work=work, **fields), stage_name)


def add_router_labels(stages: StageList, name: str, part: parts.RouterPart) -> None:
    """The labels of R2R's router, from texts of the teacher."""
    output = stages.out / "trained" / f"{name}-labels"
    words = ["s2t_eval", "r2r", "label", *stages.student_options(), *posing(stages.recipe, part.problems)]
    words += [*stages.teacher_options(), *options(part.labels), "--out", str(output)]
    # The continuations of a text's mismatches are about four times as long as the text.
    roles = ("student", *("teacher",) * 5)
    work = Work.of_texts(stages.num_problems(part.problems), roles, stages.recipe)
    fields = merged_fields(stages.model_fields(*BOTH), stages.problem_fields(part.problems))
    settings = [asdict(part.problems), asdict(part.labels)]
    stage_name = f"{name}.labels"
    stage = Stage(stage_name, "r2r label", tuple(words), output, settings, work=work, **fields)
    stages.add(stage, stage_name)
