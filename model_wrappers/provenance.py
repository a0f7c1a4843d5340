"""Which code, on which device, with which packages a run was made: what the results file records of it.

The harness's own entries cannot serve: its `git_hash` is that of the folder a command was started in, and
its `device` is the argument of that name, which is `cuda:0` by default on machines that have no GPU.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

import s2t_eval
from s2t_eval.artifacts.code import present_code
from s2t_eval.artifacts.software import STEPS_AT_ONCE, commit_of, installed_version
from s2t_eval.engine import ModelRunner

PACKAGES = ("torch", "transformers", "lm-eval", "peft", "tokenizers", "math-verify")
"""Distributions whose version may change a text or a score."""


@cache
def running_code() -> dict[str, str | None]:
    """`commit` and `code` of this process; asked for at its start, since files may change while it runs."""
    return {"commit": commit_of(Path(s2t_eval.__file__).resolve().parents[1]), "code": present_code()}


def provenance(model: Any, teacher: ModelRunner | None) -> dict[str, Any]:
    """The entries of a results file that name code, device and packages.

    Args:
        model: the student, loaded; its device is the device of the run.
        teacher: None for a method without one.

    Returns:
        commit: see `commit_of`; code: see `code_word`; device: for example "cpu" or "cuda:0 (NVIDIA H100
        80GB HBM3)"; packages: distribution -> version, those that are installed; teacher_parameters: their
        number, or None; steps_at_once: how many commands shared the machine (1: this one alone), as far as
        s2t-eval started them. Seconds of a run that shared it are not its own.
    """
    return {
        **running_code(),
        "device": _device_name(torch.device(model.device)),
        "packages": _package_versions(),
        "teacher_parameters": sum(p.numel() for p in teacher.base.parameters()) if teacher else None,
        "steps_at_once": int(os.environ.get(STEPS_AT_ONCE, 1)),
    }


def teacher_differences(teacher: ModelRunner | None, dtype: str, device: torch.device) -> dict[str, str]:
    """`teacher_dtype` and `teacher_device` of a teacher, each where it is not the student's.

    Args:
        teacher: None for a method without one.
        dtype: of the student, "torch.float32"; "of the server" for one on a server.
        device: of the student.
    """
    if teacher is None:
        return {}
    own, base = {"teacher_dtype": dtype, "teacher_device": _device_name(device)}, teacher.base
    values = {"teacher_dtype": str(base.dtype), "teacher_device": _device_name(base.device)}
    return {name: value for name, value in values.items() if value != own[name]}


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _package_versions() -> dict[str, str]:
    # math-verify and peft may be absent where nothing needs them
    return {name: number for name in PACKAGES if (number := installed_version(name)) is not None}
