"""A step runs again when something that it reads has changed, and begins after what it needs.

The inputs are those of the real stages of a recipe: hashes of the folders and files that it names.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

from s2t_eval.artifacts.code import code_identity
from s2t_eval.method_table import BACKENDS, PLACE_ARGUMENTS
from s2t_eval.model_wrappers.splitting import STOCK_ARGS
from s2t_eval.reproduce.build import build_stages
from s2t_eval.reproduce.identity import data_identity
from s2t_eval.reproduce.missing import require_inputs
from s2t_eval.reproduce.read import read_recipe
from s2t_eval.reproduce.stage_runner import StageRunner
from s2t_eval.reproduce.stages import Stage
from s2t_eval.reproduce.state import State, StateError
from s2t_eval.reproduce.work import Estimator
from tests.reproduce.test_read import write

RECIPE = """
title: inputs
models: {student: embedded/student, teacher: embedded/teacher}
calibration: {problems: {task: s2t_arith, limit: 8}}
labels: {problems: {task: s2t_arith, limit: 8}, steps: all}
rounds: {own: {selector: first}}
selectors:
  first: {form: direct}
  second: {labels: own, start: first, form: direct}
choices:
  chosen: {selector: first, task: s2t_arith_dev, tau: [0.1, 1.0], arguments: {trigger: router}}
methods:
  greedy: {model: greedy}
  s2t: {model: s2t, arguments: {teacher: "${teacher}", calibration: "${calibration}", trigger: kl, tau: 0.05}}
tasks: [{task: s2t_arith, limit: 2}]
"""
FIELDS = {
    "pps_local": ("selector", "router", "calibration", "teacher", "teacher_peft"),
    "s2t": ("selector", "router", "calibration", "teacher", "tokenizer", "peft", "pretrained"),
    "distil": ("peft", "pretrained"),
    "tah": ("tah", "oracle"),
    "specreason": ("calibration", "teacher"),
    "hf": ("peft", "delta", "pretrained", "tokenizer"),
}


def stages_of(folder: Path, *changes: str) -> dict[str, Stage]:
    return {
        one.name: one for one in build_stages(read_recipe(write(folder, RECIPE), changes), folder / "out")
    }


def changed(folder: Path, name: str, place: Path, *changes: str) -> set[str]:
    """The inputs of a stage that are others after something was trained into a folder again."""
    place.mkdir()
    (place / "weights").write_text("one")
    state, before = State(folder / "out"), stages_of(folder, *changes)[name]
    inputs = state.inputs(before, {})
    (place / "weights").write_text("two")
    after = state.inputs(stages_of(folder, *changes)[name], {})
    return {key for key in {**inputs, **after} if inputs.get(key) != after.get(key)}


@pytest.mark.parametrize(("model", "argument"), [(model, name) for model in FIELDS for name in FIELDS[model]])
def test_what_a_method_names_by_its_path_is_an_input(tmp_path: Path, model: str, argument: str) -> None:
    """A selector that was trained again in place left its evaluation `done`, with the old numbers."""
    place = tmp_path / "trained"
    method = f"methods.mine={{model: {model}, arguments: {{{argument}: {place}}}}}"
    assert changed(tmp_path, "s2t_arith/mine", place, method) == {str(place)}


def test_every_argument_that_names_a_place_is_known() -> None:
    """A new argument of a backend that names a folder or file would not be an input of its runs."""
    texts = set()
    for path in BACKENDS.values():
        module, _, name = path.partition(":")
        arguments = getattr(importlib.import_module(module), name).ARGUMENTS
        texts |= {field.name for field in dataclasses.fields(arguments) if "str" in str(field.type)}
    written = {"trace"}
    no_places = {"trigger", "kl_direction", "proposer", "student_url", "teacher_url", "adapter", "weight"}
    no_places |= {"score", "delimiter", "search", "value", "verify"}
    assert texts - written - no_places <= set(PLACE_ARGUMENTS)
    own = set(PLACE_ARGUMENTS) - texts
    assert own == {"pretrained", "tokenizer", "peft", "delta", "gguf_file"} and own <= STOCK_ARGS


def test_the_file_of_a_trace_is_no_input(tmp_path: Path) -> None:
    """A run writes it: as an input it would run the step again for ever."""
    trace = tmp_path / "mine.jsonl"
    trace.write_text("{}")
    stage = stages_of(tmp_path, f"methods.greedy.arguments.trace={trace}")["s2t_arith/greedy"]
    assert trace not in stage.files


@pytest.mark.parametrize("name", ["labels", "own"])
@pytest.mark.parametrize(
    "setting", ["teacher_context: {place}", "evaluation: [{place}]", "problems.data: {place}:train"]
)
def test_what_the_labels_read_is_an_input_of_every_round(tmp_path: Path, name: str, setting: str) -> None:
    """Contexts and evaluation problems could change without the labels being collected again."""
    place = tmp_path / "texts"
    key, _, value = setting.format(place=place).partition(": ")
    changes = [f"labels.{key}={value}"]
    if key == "problems.data":
        changes.append("labels.problems.task=null")
    assert changed(tmp_path, name, place, *changes) == {str(place)}


def test_the_selector_of_the_labels_is_an_input_of_the_first_round_alone(tmp_path: Path) -> None:
    place = tmp_path / "selector"
    change = f"labels.selector={place}"
    assert changed(tmp_path, "labels", place, change) == {str(place)}
    assert place not in stages_of(tmp_path, change)["own"].files  # this round has a writer of its own


def test_no_context_is_read_from_a_file_that_is_called_like_the_solutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solution").write_text("of something else")
    assert stages_of(tmp_path, "labels.teacher_context=solution")["labels"].files == ()


def test_a_choice_needs_what_its_arguments_name(tmp_path: Path) -> None:
    """The scan did not follow its calibration; with --jobs it could begin before that was made."""
    arguments = '{teacher: "${teacher}", calibration: "${calibration}", trigger: kl}'
    change = f"choices.chosen.arguments={arguments}"
    stages = stages_of(tmp_path, change)
    scan = stages["chosen.scan"]
    assert scan.needs == {name: stages[name].output for name in ("calibration", "first")}
    assert set(scan.models) == {"student", "teacher"}
    assert stages["chosen"].needs == {name: stages[name].output for name in ("chosen.scan", "first")}
    state = State(tmp_path / "out")
    one, other = (state.inputs(scan, {"calibration": text}) for text in ("a", "b"))
    assert {name for name in one if one[name] != other[name]} == {"calibration"}
    place = tmp_path / "router"
    change = f"choices.chosen.arguments={{trigger: router, router: {place}}}"
    assert changed(tmp_path, "chosen.scan", place, change) == {str(place)}


def test_inputs_do_not_depend_on_what_is_made_already(tmp_path: Path) -> None:
    """A trained selector that became a file of the scan, once it was there, would run the scan again."""
    before = stages_of(tmp_path)
    for stage in before.values():
        stage.output.mkdir(parents=True)
    assert stages_of(tmp_path) == before


def test_the_solutions_that_rlkd_reads_again_are_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels were collected before: their folder does not change with the task's data."""
    data, labels = tmp_path / "data" / "openai" / "gsm8k", tmp_path / "labels"
    data.mkdir(parents=True)
    labels.mkdir()
    monkeypatch.setenv("S2T_DATA", str(tmp_path / "data"))
    (labels / "manifest.json").write_text('{"data": {"source": "s2t_gsm8k", "problems": 8}}')
    stage = stages_of(
        tmp_path,
        *(f"labels={{folder: {labels}}}", "rounds={}", "selectors={first: {form: direct}}"),
        "rlkd={rewarded: {references: solutions}}",
    )["rewarded"]
    state = State(tmp_path / "out")
    (data / "train.jsonl").write_text("one")
    before = state.inputs(stage, {})
    (data / "train.jsonl").write_text("two")
    after = state.inputs(stage, {})
    assert {key for key in before if before[key] != after[key]} == {"the data of s2t_gsm8k"}


@pytest.mark.parametrize(
    ("task", "read"),
    [("s2t_gsm8k", True), ("s2t_gsm8k_dev", True), ("s2t_mine", True), ("s2t_arith_dev", False)],
)
def test_the_data_of_a_task_are_an_input(
    task: str, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "openai" / "gsm8k" / "test.jsonl"
    file.parent.mkdir(parents=True)
    monkeypatch.setenv("S2T_DATA", str(tmp_path))
    file.write_text("one")
    before = data_identity(task)
    file.write_text("two")
    assert (before != data_identity(task)) is read
    assert (before is not None) is read


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("checkout", "model_wrappers/base.py"),
        ("checkout", "tasks/_s2t_shared_yaml"),
        ("checkout", "tasks/s2t_arith/s2t_arith.yaml"),
        ("installed", "s2t_eval/tasks/_s2t_shared_yaml"),
        ("installed", "s2t_eval/report/paper/published.csv"),
    ],
)
def test_changed_code_is_noticed_where_git_does_not_answer(layout: str, file: str, tmp_path: Path) -> None:
    """In a copied checkout, or one of another user, backends and tasks were no part of the package."""
    folders = {"checkout": ("s2t_eval", "model_wrappers", "tasks"), "installed": ("s2t_eval",)}[layout]
    for folder in folders:
        (tmp_path / folder).mkdir()
    place = tmp_path / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("one")
    before = code_identity(tmp_path / "s2t_eval")
    assert before["commit"] is None and before["changes"] is not None
    (place.parent / "__pycache__").mkdir()
    (place.parent / "__pycache__" / "base.cpython-311.pyc").write_bytes(b"compiled")
    assert code_identity(tmp_path / "s2t_eval") == before
    place.write_text("two")
    assert code_identity(tmp_path / "s2t_eval") != before


# ---------------------------------------------------------------- what is not there is not another input

NO_LABELS = ("rounds={}", "selectors={first: {form: direct}}", "choices={}")
ABSENT = {
    "a data file of another folder": (
        ("labels.problems={data: texts.jsonl}",),
        ("labels", r"it reads texts\.jsonl, which is not there"),
    ),
    "a label set of another folder": (
        ("labels={folder: texts}", *NO_LABELS),
        ("first", r"it reads .*/elsewhere/texts, which is not there"),
    ),
    "problems of another folder": (
        ("labels.problems={data: 'texts:train'}",),
        ("labels", r"it has read texts, which is not there"),
    ),
    "a selector of another folder": (
        ("methods.mine={model: pps_local, arguments: {selector: texts}}",),
        ("s2t_arith/mine", r"it has read texts, which is not there"),
    ),
    "a model of another folder": (
        ("models.student=texts",),
        ("s2t_arith/greedy", r"it has read student from the folder texts, which is not there"),
    ),
    "a variable that is not exported": (
        ("tasks=[{task: s2t_gsm8k, limit: 2}]",),
        ("s2t_gsm8k/greedy", r"it has read the data of s2t_gsm8k .*: S2T_DATA, which is not set"),
    ),
}


@pytest.mark.parametrize(("changes", "expected"), ABSENT.values(), ids=ABSENT)
def test_an_input_that_is_not_there_costs_no_work(
    changes: tuple[str, ...], expected: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started from another folder or shell, the command moved labels away and removed caches."""
    data, name = tmp_path / "data" / "openai" / "gsm8k", expected[0]
    for folder in (data, tmp_path / "texts", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        if folder.name != "elsewhere":
            (folder / "test.jsonl").write_text("{}")
    (tmp_path / "texts.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S2T_DATA", str(tmp_path / "data"))
    state, stage = State(tmp_path / "out"), stages_of(tmp_path, *changes)[name]
    state.begin(stage, state.inputs(stage, {}), resumes=False)
    kept = [stage.output / "labels", *stage.scratch]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("hours of work")
    require_inputs([stage], state)

    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("S2T_DATA")
    stage = stages_of(tmp_path, *changes)[name]
    runner = StageRunner(
        read_recipe(write(tmp_path, RECIPE)), [stage], state, Estimator(1.0), print, 1, keep_going=False
    )
    with pytest.raises(StateError, match=f"^{name}: {expected[1]}; what was made with it is kept"):
        runner.run()
    assert all(path.exists() for path in kept)


def test_an_empty_folder_is_no_model_of_its_own(tmp_path: Path) -> None:
    """The folder to which a disk is mounted stays when it is not: it had the hash of an empty model."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    change, name = f"models.student={model}", "s2t_arith/greedy"
    state, stage = State(tmp_path / "out"), stages_of(tmp_path, change)[name]
    state.begin(stage, state.inputs(stage, {}), resumes=False)
    (model / "config.json").unlink()
    with pytest.raises(StateError, match="which is not there"):
        require_inputs([stage], state)
    other = stages_of(tmp_path, "models.student=someone/model")[name]  # a change of the recipe is one
    require_inputs([other], state)
