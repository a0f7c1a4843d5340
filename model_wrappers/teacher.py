"""The larger model beside the student, loaded as stock `hf` loads a model, for every backend that has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.embedded import resolve_model
from s2t_eval.engine import ModelRunner
from s2t_eval.engine.compiled_layers import Compile
from s2t_eval.model_wrappers.checked_model import CheckedModel
from s2t_eval.model_wrappers.splitting import TEACHER, parse_model_args, require_teacher_names
from s2t_eval.model_wrappers.stock_arguments import require_context, require_loading
from s2t_eval.models.loading import default_device
from s2t_eval.models.vocabulary import require_same_vocabulary, text_vocabulary

SHARED = ("dtype", "trust_remote_code")
"""Arguments of the student that hold for a teacher without its own."""


class TeacherModel(CheckedModel):
    """The teacher as stock `hf` loads it."""

    ROLE = "teacher"
    PEFT = "teacher_peft"


class LoadedTeacher(NamedTuple):
    """A loaded teacher."""

    runner: ModelRunner
    fingerprint: str
    """of its weights"""
    tokenizer: Any
    model: Any


def require_teacher(method: str, model_args: Mapping[str, Any], role: str) -> None:
    """Raise `ValueError` unless `--model_args` name a teacher, in this process or on servers.

    Args:
        method: the backend's `METHOD`.
        model_args: `--model_args`.
        role: what a teacher does in this method, as the message says it: "selects".
    """
    if not model_args.get("teacher") and not model_args.get("teacher_url"):
        raise ValueError(
            f"--model {method}: it needs teacher=MODEL (a hub name or a folder), the larger model that "
            f"{role}, or teacher_url=URL of a server"
        )


def read_teacher_args(text: str) -> dict[str, Any]:
    """A teacher's arguments from the option `--teacher_args` of a command.

    Args:
        text: stock `hf`'s arguments about loading, as in `--model_args` but without `teacher_` in front.

    Raises:
        ValueError: an unknown name, or an unusable value.
    """
    try:
        options = parse_model_args(text)
    except ValueError as error:
        raise ValueError(f"--teacher_args: {error}") from error
    require_teacher_names("--teacher_args", options)
    require_teacher_options(options, {})
    return options


def teacher_model_args(text: str) -> dict[str, Any]:
    """As `read_teacher_args`, by the names that a backend's `--model_args` have for a teacher."""
    return {TEACHER + name: value for name, value in read_teacher_args(text).items()}


def require_teacher_options(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> None:
    """Raise `ValueError` for unusable arguments of a teacher, stock `hf`'s without their `teacher_`.

    Args:
        teacher: the teacher's arguments.
        student: the student's.
    """
    require_loading(teacher, TEACHER)
    if teacher.get("tp_plan") is not None and student.get("tp_plan") is None:
        raise ValueError(
            "teacher_tp_plan: the processes that share a teacher must decode the same texts, which they do "
            "with tp_plan for the student too; give both, or teacher_parallelize=True in one process"
        )


def teacher_options(
    teacher: Mapping[str, Any], student: Mapping[str, Any], device: torch.device | str
) -> dict[str, Any]:
    """Stock `hf`'s arguments with which a teacher is loaded.

    Args:
        teacher: the teacher's arguments.
        student: the student's; `dtype` and `trust_remote_code` hold for a teacher without its own.
        device: the student's, which holds likewise.
    """
    shared = {name: student[name] for name in SHARED if student.get(name) is not None}
    return {"device": str(device), **shared, **teacher}


def device_of_teacher(
    student: torch.device | str, is_student_served: bool, wanted: str | None
) -> torch.device | str:
    """The device of a teacher without one of its own: the student's.

    Args:
        student: device of the student.
        is_student_served: whether the student is on servers. What stands for it here is on the CPU, which has
            no bearing on a teacher that is loaded.
        wanted: the student's argument `device`; with the student on servers only a teacher here can mean it.
    """
    return (wanted or default_device()) if is_student_served else student


def load_teacher(
    name: str,
    student_tokenizer: Any,
    options: Mapping[str, Any],
    max_length: int | None = None,
    compile: Compile = "auto",
) -> LoadedTeacher:
    """Load the teacher and compare its vocabulary with the student's.

    Args:
        name: a hub name, a folder or `embedded/teacher`.
        student_tokenizer: the student's tokenizer.
        options: arguments of stock `hf`; see `teacher_options`.
        max_length: the run's context in tokens; None takes the models'.
        compile: whether its layers are compiled; see `ModelRunner`.

    Raises:
        ModelLoadError: a model that is missing or unreadable.
        VocabularyMismatchError: teacher and student have different tokens.
    """
    loaded = TeacherModel(resolve_model(name), model_name=name, **options)
    require_same_vocabulary(student_tokenizer, loaded.tokenizer)
    require_context("teacher", max_length, loaded.model.config)
    runner = ModelRunner(loaded.model, name, text_vocabulary(loaded.tokenizer), compile=compile)
    return LoadedTeacher(runner, model_fingerprint(loaded.model), loaded.tokenizer, loaded.model)
