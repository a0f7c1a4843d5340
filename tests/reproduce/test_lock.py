"""`recipe.lock` says what a reproduction was really made with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from s2t_eval.reproduce.build import build_stages
from s2t_eval.reproduce.lock import LOCK, write_lock
from s2t_eval.reproduce.read import read_recipe
from s2t_eval.reproduce.state import State
from tests.report_helpers import EMBEDDED
from tests.reproduce.test_read import write

RECIPE = """
title: a teacher that no method reads
models: {student: embedded/student, teacher: embedded/teacher}
methods:
  greedy: {model: greedy}
  maj8: {model: maj8}
  teacher: {model: greedy, arguments: {pretrained: "${teacher}"}}
tasks: [{task: s2t_arith}]
"""


def test_the_fingerprint_of_a_teacher_alone_is_the_teacher_s(tmp_path: Path) -> None:
    """It was listed under the student, and the teacher had none: teachers were those that s2t names."""
    read, out = read_recipe(write(tmp_path, RECIPE)), tmp_path / "out"
    for name in read.recipe.methods:
        place = out / "runs" / "s2t_arith" / name
        place.mkdir(parents=True)
        shutil.copy(EMBEDDED / f"{name}.json", place / "results_2026.json")
    write_lock(read, build_stages(read, out), State(out))
    lock = json.loads((out / LOCK).read_text())
    assert lock["models"]["student"]["fingerprints"] == ["9033af129240fa3d"]
    assert lock["models"]["teacher"]["fingerprints"] == ["a066a95b1d22b5a4"]
    assert lock["device"] == {"used": "cpu"}


def test_the_machine_of_a_step_has_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that were made on a GPU and evaluated without one were of a machine that seemed to have none;
    the name of the device was that of the process that wrote the lock."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    read, out = read_recipe(write(tmp_path, RECIPE)), tmp_path / "out"
    stages, state = build_stages(read, out), State(out)
    state.begin(stages[0], state.inputs(stages[0], {}), resumes=False)
    monkeypatch.undo()
    write_lock(read, stages, state)
    machine = json.loads((out / LOCK).read_text())["machine"]
    assert machine["gpus"] == ["card 0", "card 1"]
    assert machine["threads"] == torch.get_num_threads()
