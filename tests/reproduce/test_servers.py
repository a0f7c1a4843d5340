"""Recipes whose models are on servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s2t_eval import cli
from s2t_eval.cli.application import CommandLine
from s2t_eval.report.runs import read_runs
from s2t_eval.reproduce.measured import require_arguments
from s2t_eval.reproduce.read import RecipeError, read_recipe
from s2t_eval.reproduce.run import reproduce
from s2t_eval.reproduce.settings import Settings
from s2t_eval.reproduce.stages import Stage
from s2t_eval.reproduce.state import State
from s2t_eval.reproduce.work import Estimator, Finished, Work
from tests.harness_helpers import model
from tests.remote.fake_server import serving
from tests.remote.model_server import ModelServer
from tests.reproduce.test_build import arguments_of, stages_of
from tests.reproduce.test_read import refusal, write

RECIPE = """
title: served
models: {student: embedded/student, teacher: embedded/teacher, dtype: float32, device: cpu}
servers: {student_url: "http://a:8001", teacher_url: "http://b:8002"}
limits: {batch_size: 4}
calibration: {problems: {task: s2t_arith, limit: 4}, tau: [0.1]}
labels: {problems: {task: s2t_arith, limit: 4}, steps: all}
distilled: {distilled: {method: kd}}
routers: {router: {problems: {task: s2t_arith, limit: 4}}}
methods:
  greedy: {model: greedy}
  distil: {model: distil, arguments: {peft: "${distilled}"}}
  s2t: {model: s2t, arguments: {teacher: "${teacher}", calibration: "${calibration}", trigger: kl, tau: 0.1}}
  specreason: {model: specreason, arguments: {teacher: "${teacher}", accept: 0.5}}
  own:
    model: s2t
    arguments: {teacher: "${teacher}", teacher_url: "http://c:8003", trigger: random, threshold: 0.5}
  teacher: {model: greedy, arguments: {pretrained: "${teacher}"}}
  stock: {model: hf, arguments: {pretrained: "${teacher}"}}
tasks: [{task: s2t_arith, limit: 3}]
"""
BOTH = "--student_url http://a:8001 --teacher_url http://b:8002"


def row(stages: dict[str, Stage], name: str) -> dict[str, Any]:
    return {k: v for k, v in arguments_of(stages[f"s2t_arith/{name}"]).items() if not k.endswith("dtype")}


def test_steps_and_rows_use_the_servers_that_they_can(tmp_path: Path) -> None:
    """The recipe of the paper loaded a teacher of 32 billion parameters in every step, servers or not."""
    recipe = write(tmp_path, RECIPE)
    stages = stages_of(recipe)
    for name in ("calibration", "labels"):
        assert BOTH in " ".join(stages[name].command), name
        assert CommandLine(cli.COMMANDS).parse(stages[name].command[1:]) is not None
    for name in ("distilled", "router.labels"):
        assert "_url" not in " ".join(stages[name].command) and "--teacher" in stages[name].command, name
    assert row(stages, "s2t")["teacher_url"] == row(stages, "specreason")["teacher_url"] == "http://b:8002"
    assert row(stages, "own")["teacher_url"] == "http://c:8003"
    assert row(stages, "teacher")["student_url"] == "http://b:8002"
    for name in ("greedy", "distil", "stock"):
        assert not any(key.endswith("_url") for key in row(stages, name)), name
    require_arguments(read_recipe(recipe).recipe, list(stages.values()))
    loaded = {name: stage.work.parameter_tokens for name, stage in stages.items()}
    assert loaded["calibration"] == loaded["labels"] == loaded["s2t_arith/teacher"] == 0
    assert loaded["s2t_arith/s2t"] == loaded["s2t_arith/greedy"] > 0


def test_the_plan_says_what_it_does_not_estimate(tmp_path: Path) -> None:
    lines: list[str] = []
    reproduce(Settings(write(tmp_path, RECIPE), out=tmp_path / "out", plan=True), lines.append)
    assert "The estimates leave out what servers compute." in lines


def test_a_quantized_teacher_is_loaded_only_where_it_is_not_served(tmp_path: Path) -> None:
    stages = stages_of(write(tmp_path, RECIPE), "models.teacher_args={load_in_4bit: true}")
    having = {name for name, stage in stages.items() if "load_in_4bit" in " ".join(stage.command)}
    assert having == {"distilled", "router.labels", "s2t_arith/stock"}


def test_settings_of_servers_reach_what_has_no_model_of_its_own(tmp_path: Path) -> None:
    settings = "servers={student_url: http://a, teacher_url: http://b, concurrency: 9, timeout_s: 7}"
    stages = stages_of(write(tmp_path, RECIPE), settings)
    assert "--concurrency 9 --timeout_s 7" in " ".join(stages["labels"].command)
    assert row(stages, "teacher")["concurrency"] == 9 and row(stages, "teacher")["timeout_s"] == 7
    assert "concurrency" not in row(stages, "s2t") and row(stages, "s2t")["timeout_s"] == 7


def test_labels_may_have_their_student_here(tmp_path: Path) -> None:
    stages = stages_of(write(tmp_path, RECIPE), "servers={teacher_url: http://b}", "calibration=null",
                       "methods.s2t={model: greedy}")  # fmt: skip
    assert "--teacher_url http://b" in " ".join(stages["labels"].command)
    assert "--student_url" not in stages["labels"].command


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("servers={teacher_url: b:8002}", "servers.teacher_url: expected URLs such as http://host:8001"),
        ("servers={teacher_url: http://b}", "servers.student_url: the calibration measures models that are"),
        ("servers={student_url: http://a}", "servers: it has no 'teacher_url'"),
        ("servers.concurrency=0", "servers.concurrency: expected at least 1, got 0"),
        ("servers.techer_url=x", "servers: unknown key 'techer_url'; did you mean 'teacher_url'?"),
        ("models.dtype=auto", "models.dtype: servers do not report their dtype; name the one that they were"),
        ("models.teacher_args={peft: x}", "models.teacher_args.peft: the served teacher has its own weights"),
        ("calibration=null", "servers.student_url: labels and calibration alone use it, and there are none"),
        ("labels.selector=mine", "servers: the texts of a selector (rounds, labels.selector) are written by"),
        ("models={student: embedded/student}", "servers: models.teacher is the model that they serve"),
    ],
)
def test_what_servers_cannot_do_is_refused(change: str, message: str, tmp_path: Path) -> None:
    changes = (
        [change, "labels=null", "distilled={}", "methods={a: {model: greedy}}"]
        if change == "calibration=null"
        else [change]
    )
    if change.startswith("models="):
        changes += [
            "distilled={}",
            "routers={}",
            "labels=null",
            "calibration=null",
            "methods={a: {model: greedy}}",
        ]
    assert message in refusal(tmp_path, *changes, text=RECIPE)


def test_a_trigger_that_servers_do_not_measure_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Its threshold would have been missed at the row, behind labels and training."""
    recipe, change = write(tmp_path, RECIPE), "methods.s2t.arguments.trigger=entropy"
    stages = stages_of(recipe, change)
    with pytest.raises(
        RecipeError, match=r"s2t_arith/s2t: trigger: servers do not measure entropy, got tau=0.1"
    ):
        require_arguments(read_recipe(recipe, [change]).recipe, list(stages.values()))


def test_steps_stay_done_when_their_servers_move_or_get_more_patience(tmp_path: Path) -> None:
    """Labels take hours, and a server has another port after every start."""
    recipe, state = write(tmp_path, RECIPE), State(tmp_path / "out")
    moved = ("servers={student_url: http://d:1, teacher_url: http://e:2, concurrency: 9, patience_s: 9000}",)

    def inputs(*changes: str) -> list[dict[str, str]]:
        stages = stages_of(recipe, *changes, out=str(tmp_path / "out"))
        return [
            state.inputs(stages[name], {})
            for name in ("calibration", "labels", "s2t_arith/s2t", "s2t_arith/teacher")
        ]

    assert inputs() == inputs(*moved)
    for before, after in zip(inputs(), inputs("servers=null"), strict=True):
        assert before["its command line"] != after["its command line"]


def test_a_row_keeps_what_it_says_of_servers(tmp_path: Path) -> None:
    """Its own settings were replaced by nothing, and a row could not load its model."""
    rows = {
        "own": {"pretrained": "${teacher}", "concurrency": 8, "timeout_s": 60},
        "here": {"pretrained": "${teacher}", "student_url": None},
    }
    methods = {name: {"model": "maj8", "arguments": arguments} for name, arguments in rows.items()}
    both = {"teacher": "${teacher}", "student_url": "http://x:1", "trigger": "kl", "threshold": 1}
    methods["both"] = {"model": "s2t", "arguments": both}
    changes = (f"methods={json.dumps(methods)}", "servers.timeout_s=7", "models.teacher_dtype=bfloat16")
    stages = stages_of(write(tmp_path, RECIPE), *changes)
    own, here, both = (arguments_of(stages[f"s2t_arith/{name}"]) for name in ("own", "here", "both"))
    assert own["concurrency"] == 8 and own["timeout_s"] == 60 and own["student_url"] == "http://b:8002"
    assert own["dtype"] == here["dtype"] == "bfloat16"  # the teacher's
    assert "student_url" not in here
    assert both["teacher_url"] == "http://b:8002" and "teacher_dtype" not in both
    loaded = {name: stages[f"s2t_arith/{name}"].work.parameter_tokens for name in methods}
    assert loaded["own"] == loaded["both"] == 0 < loaded["here"]


def test_what_servers_do_is_no_measure_of_other_steps() -> None:
    """After labels on servers a training of ten minutes was estimated at three days."""
    estimator = Estimator(1e9, [Finished("collect", Work(is_shared=True), 7200.0)])
    assert estimator.seconds("train", Work(6e11)) == pytest.approx(610)
    assert "matrix product" in estimator.basis(["train"])


def require_table_of_servers(folder: Path, student_url: str, teacher_url: str) -> None:
    """Run the recipe on servers of the embedded pair, and check what it made."""
    recipe, out = write(folder, RECIPE), folder / "out"
    methods = read_recipe(recipe).content["methods"]
    rows = json.dumps({name: methods[name] for name in ("s2t", "teacher")})
    changes = (f"methods={rows}", "distilled={}", "routers={}", "analysis=false")
    urls = f"servers={{student_url: {student_url}, teacher_url: {teacher_url}}}"
    reproduce(Settings(recipe, out=out, set=(*changes, urls)), lambda line: None)
    manifest = json.loads((out / "labels" / "manifest.json").read_text())
    assert manifest["data"]["problems"] == 4 and manifest["num_steps"] > 0
    calibration = json.loads((out / "calibration.json").read_text())
    assert calibration["thresholds"]["kl:teacher_student"]["0.1"] > 0
    assert "float32, as stated" in (out / "report" / "report.md").read_text()
    runs = {run.name: run.backend_info for run in read_runs([out / "runs" / "s2t_arith"])}
    served = {name: set(info["servers"]) for name, info in runs.items()}
    assert served == {"s2t": {"teacher"}, "teacher": {"student"}}


def test_a_recipe_on_servers_runs_to_its_table(tmp_path: Path) -> None:
    student, teacher = ModelServer(model("embedded/student")), ModelServer(model("embedded/teacher"))
    with serving(student, teacher):
        require_table_of_servers(tmp_path, student.url, teacher.url)
    assert student.requests and teacher.requests
