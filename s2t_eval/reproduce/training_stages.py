"""Stages that train an artifact, and the choice of a selector's threshold on development problems."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s2t_eval.methods.selector_info import selecting_proposers
from s2t_eval.reproduce import parts
from s2t_eval.reproduce.commands import asking, least, model_arguments, option, options, precision
from s2t_eval.reproduce.read import RecipeError, references
from s2t_eval.reproduce.stage_list import BOTH, StageList
from s2t_eval.reproduce.stages import Stage, merged_fields
from s2t_eval.reproduce.work import Work
from s2t_eval.training.r2r.settings import RouterLoopSettings
from s2t_eval.training.rlkd.settings import RlkdLoopSettings, RlkdSettings
from s2t_eval.training.selector.settings import SelectorSettings, TrainSettings
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.work_folder import work_folder

DEV_PROBLEMS = 500
"""Problems of a development task that a recipe does not limit; for estimates alone."""
SHARE_RIGHT = 0.5
"""Of a teacher's texts, of which RLKD takes the right ones as references; for estimates alone."""


def add_selector(stages: StageList, name: str, part: parts.SelectorPart, seed: int) -> None:
    """A selector, trained on the labels or on those of a round."""
    labels = stages.labels() if part.labels is None else stages.made[part.labels, seed]
    round_limit = None if part.labels is None else stages.recipe.rounds[part.labels].limit
    words = ["s2t_eval", "train", *stages.student_options(), "--labels", str(labels.place)]
    words += options(part, "start", "labels")
    fields = merged_fields(stages.model_fields("student"), labels.fields)
    if part.start is not None:
        start = stages.made[part.start, seed]
        words += ["--start", str(start.place)]
        fields = merged_fields(fields, start.fields)
    texts = least(part.limit, round_limit, stages.num_labelled_texts()) or 0
    work = _selector_work(stages, texts, part)
    _add_training(stages, name, "train", words, part, seed, fields, work)


def _selector_work(stages: StageList, texts: int, part: parts.SelectorPart) -> Work:
    """The work of a selector: its training by its form and regularizer, and its routers' texts."""
    given = asdict(part)
    form = given["form"] or SelectorSettings.form
    beta = SelectorSettings.beta if given["beta"] is None else given["beta"]
    anchor = given["anchor"] or SelectorSettings.anchor
    tau = stages.label_tau()
    trained = tau + (given["low_kl_fraction"] or TrainSettings.low_kl_fraction) * (1 - tau)
    candidates = given["num_candidates"] or TrainSettings.num_candidates
    return Work.of_selector(
        texts,
        part.epochs or LoopSettings.epochs,
        0.0 if form == "direct" else trained * candidates,
        has_frozen_pass=beta > 0 and anchor == "text",
        num_routers=0 if given["skip_routers"] else len(selecting_proposers(form)),
        recipe=stages.recipe,
    )


def add_distilled(stages: StageList, name: str, part: parts.DistilPart, seed: int) -> None:
    """A student that is distilled from the teacher, or tuned on its texts."""
    labels = stages.labels()
    words = ["s2t_eval", "distil", *stages.student_options(), *stages.training_teacher_options()]
    words += ["--labels", str(labels.place), *options(part)]
    texts = least(part.limit, stages.num_labelled_texts()) or 0
    fields = merged_fields(stages.model_fields(*BOTH), labels.fields)
    work = _training_work(stages, texts, part, BOTH)
    _add_training(stages, name, "distil", words, part, seed, fields, work)


def add_rlkd(stages: StageList, name: str, part: parts.RlkdPart, seed: int) -> None:
    """A student that RLKD trains; its references are the teacher's texts or the problems' solutions."""
    labels = stages.labels()
    roles = BOTH if part.references == "teacher" else BOTH[:1]
    words = ["s2t_eval", "rlkd", *stages.student_options(), "--labels", str(labels.place)]
    words += options(part, "references")
    words += stages.training_teacher_options() if len(roles) > 1 else []
    fields = merged_fields(stages.model_fields(*roles), labels.fields, stages.label_problem_fields())
    num_labelled = stages.num_labelled_texts()
    texts = least(part.limit, num_labelled) or 0
    references = _num_references(part, num_labelled)
    epochs, group = part.epochs or RlkdLoopSettings.epochs, part.group_size or RlkdSettings.group_size
    work = Work.of_rewarded(texts, references, epochs, group, roles, stages.recipe)
    _add_training(stages, name, "rlkd", words, part, seed, fields, work)


def _num_references(part: parts.RlkdPart, num_labelled: int) -> int:
    """Texts that the teacher writes until both sides have their limits of right ones."""
    given = asdict(part)
    limit, max_held_out = given["limit"], given["max_held_out"]
    if limit is None or max_held_out is None:
        return num_labelled
    held_out = given["held_out"] or RlkdSettings.held_out
    right = max(limit / (1 - held_out), max_held_out / held_out)
    return min(num_labelled, round(right if given["unverified"] else right / SHARE_RIGHT))


def add_tah(stages: StageList, name: str, part: parts.TahPart, seed: int) -> None:
    """Stage 1, and stage 2 on a copy of what it made."""
    labels = stages.made[f"{name}.labels", stages.recipe.seeds[0]]
    words = ["s2t_eval", "tah", "train", *stages.student_options(), "--labels", str(labels.place)]
    fields = merged_fields(stages.model_fields("student"), labels.fields)
    texts = stages.num_problems(part.problems)
    first = [*words, "--stage", "1", *options(part.depths)]
    work = _training_work(stages, texts, part.depths, BOTH[:1])
    _add_training(stages, f"{name}.passes", "tah stage 1", first, part.depths, seed, fields, work)
    passes = stages.made[f"{name}.passes", seed]
    second = [*words, "--stage", "2", *options(part.decider)]
    fields = merged_fields(fields, passes.fields, {"copy_of": passes.place})
    work = _training_work(stages, texts, part.decider, BOTH[:1])
    _add_training(stages, name, "tah stage 2", second, part.decider, seed, fields, work)


def add_router(stages: StageList, name: str, part: parts.RouterPart, seed: int) -> None:
    """R2R's router."""
    labels = stages.made[f"{name}.labels", stages.recipe.seeds[0]]
    words = ["s2t_eval", "r2r", "train", *stages.student_options(), "--labels", str(labels.place)]
    words += options(part.training)
    fields = merged_fields(stages.model_fields("student"), labels.fields)
    epochs = part.training.epochs or RouterLoopSettings.epochs
    work = Work.of_router(stages.num_problems(part.problems), epochs, stages.recipe)
    _add_training(stages, name, "r2r train", words, part.training, seed, fields, work)


def _training_work(stages: StageList, texts: int, part: parts.Training, roles: Sequence[str]) -> Work:
    return Work.of_training(texts, part.epochs or LoopSettings.epochs, roles, stages.recipe)


def _add_training(
    stages: StageList,
    name: str,
    kind: str,
    words: Sequence[str],
    part: parts.Training,
    seed: int,
    fields: Mapping[str, Any],
    work: Work,
) -> None:
    """A stage that trains."""
    stage_name = stages.seeded_name(name, seed)
    output = stages.out / "trained" / stage_name
    command = (*words, *precision(stages.recipe, part), "--seed", str(seed), "--out", str(output))
    scratch = (work_folder(output),)
    settings = [asdict(part), seed]
    stage = Stage(stage_name, kind, command, output, settings, scratch=scratch, work=work, **fields)
    stages.add(stage, name, seed)


def add_choice(stages: StageList, name: str, part: parts.ChoicePart, seed: int) -> None:
    """A scan over development problems, and the choice on a copy of the selector."""
    stage_name, selector = stages.seeded_name(name, seed), stages.made[part.selector, seed]
    scan = _add_scan(stages, f"{stage_name}.scan", stages.out / "scans" / stage_name, part, seed)
    output = stages.out / "trained" / stage_name
    proposer = "tuned" if part.model == "s2t_local" else "base"
    command = ("s2t_eval", "choose", str(scan.output), "--selector", str(output), "--proposer", proposer)
    needs = {scan.name: scan.output, selector.stage: selector.place}
    stage = Stage(stage_name, "choose", command, output, proposer, needs, copy_of=selector.place)
    stages.add(stage, name, seed)


def _add_scan(stages: StageList, stage_name: str, output: Path, part: parts.ChoicePart, seed: int) -> Stage:
    """Runs on development problems, one for each rate."""
    selector = stages.made[part.selector, seed]
    arguments = {"pretrained": "${student}", "selector": str(selector.place), **part.arguments}
    place_of = functools.partial(stages.place_of, seed=seed)
    model_args = model_arguments(stages.recipe, arguments, place_of)
    if model_args.startswith("{"):
        raise RecipeError(
            f"{stage_name}: a scan reads its arguments as name=value pairs, and {model_args} cannot be "
            "written so; use values without commas, brackets and quotes"
        )
    limit = least(part.limit, stages.recipe.limits.problems)
    words = ["s2t_eval", "scan", "--model", part.model, "--model_args", model_args]
    words += option("top_k", stages.recipe.selectors[part.selector].top_k)
    words += [*option("tau", part.tau), "--tasks", part.task, "--out", str(output), "--"]
    words += [*asking(stages.recipe, part.task), *option("limit", limit)]
    runs, roles = 1 + len(part.tau), [role for role in BOTH if role in references(arguments)]
    work = Work.of_texts(runs * (limit or DEV_PROBLEMS), roles, stages.recipe, starts=runs)
    # What is trained here is no file of its own yet: the stage that trains it is named instead.
    fields = stages.argument_fields({"pretrained": "${student}", **part.arguments}, seed)
    fields = merged_fields(fields, selector.fields)
    settings = [asdict(part), seed]
    scan = Stage(stage_name, "scan", tuple(words), output, settings, tasks=(part.task,), work=work, **fields)
    stages.add(scan)
    return scan
