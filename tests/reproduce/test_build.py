"""The stages of a recipe are commands that exist, in an order in which each has what it needs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from lm_eval._cli.utils import MergeDictAction
from safetensors.torch import save_file

from s2t_eval import cli
from s2t_eval.cli.application import CommandLine
from s2t_eval.cli.calibrate import Calibrate
from s2t_eval.cli.options import options_of
from s2t_eval.embedded import embedded_path
from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.arguments import SamplingArguments
from s2t_eval.model_wrappers.splitting import parse_model_args
from s2t_eval.model_wrappers.teacher import read_teacher_args
from s2t_eval.pipelines.settings import CollectionSettings, StepCalibration
from s2t_eval.reproduce.build import build_stages
from s2t_eval.reproduce.documents import Documents, selected_documents
from s2t_eval.reproduce.evaluation_stages import DEFAULT_SAMPLES, RESCORED_TEXTS
from s2t_eval.reproduce.identity import BUILT_IN, DATA_FOLDERS
from s2t_eval.reproduce.measured import require_arguments
from s2t_eval.reproduce.parts import (
    CalibrationPart,
    DeciderPart,
    DepthsPart,
    DistilPart,
    LabelsPart,
    RlkdPart,
    RouterLabelsPart,
    RouterTrainingPart,
    SelectorPart,
)
from s2t_eval.reproduce.read import RecipeError, read_recipe, shipped
from s2t_eval.reproduce.schema import MethodPart, Recipe, TaskPart
from s2t_eval.reproduce.stages import EVALUATE, Stage, evaluations
from s2t_eval.reproduce.task_groups import GROUPS
from s2t_eval.reproduce.work import parameters
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.items import make_items
from s2t_eval.training.selector.packing import pack
from s2t_eval.training.work_folder import unfinished_folder
from tests.benchmark_folder import write_benchmarks
from tests.learning import labels
from tests.reproduce.test_read import write

TASKS = Path(__file__).resolve().parents[2] / "tasks"


def stages_of(name: str, *changes: str, out: str = "/out") -> dict[str, Stage]:
    return {stage.name: stage for stage in build_stages(read_recipe(name, changes), Path(out))}


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", "/data")


@pytest.mark.parametrize("name", shipped())
def test_every_stage_is_a_command_that_exists_and_follows_what_it_needs(name: str) -> None:
    stages = stages_of(name, "models.student=embedded/student", "models.teacher=embedded/teacher")
    seen: dict[str, Path] = {}
    for stage in stages.values():
        assert {need: seen.get(need) for need in stage.needs} == dict(stage.needs), stage.name
        seen[stage.name] = stage.output
        module, command, *_ = stage.command
        assert module == "s2t_eval"
        if command == "run":  # lm_eval's own command line
            assert stage.kind == EVALUATE
            assert stage.command[stage.command.index("--model") + 1] in BACKENDS
        else:
            assert CommandLine(cli.COMMANDS).parse(stage.command[1:]) is not None
    kinds = [stage.kind for stage in stages.values()]
    assert kinds[kinds.index("report") - 1] == EVALUATE  # the table comes before all that may fail


def test_a_text_that_begins_with_a_hyphen_reaches_its_option() -> None:
    """`prompt.system_instruction: "- Solve it"` ended in the first step: "expected a text, got none"."""
    stage = stages_of("embedded", "prompt.system_instruction='- Solve it'")["calibration"]
    command = CommandLine(cli.COMMANDS).parse(stage.command[1:])
    assert isinstance(command, Calibrate) and command.prompting.system_instruction == "- Solve it"


def test_settings_of_training_are_options_of_its_commands() -> None:
    """A setting of a recipe that the command lacks would be found out after hours, when its stage begins."""
    line = CommandLine(cli.COMMANDS)
    for command, part in (
        ("train", SelectorPart),
        ("distil", DistilPart),
        ("rlkd", RlkdPart),
        ("tah train", DepthsPart),
        ("tah train", DeciderPart),
        ("r2r label", RouterLabelsPart),
        ("r2r train", RouterTrainingPart),
        ("calibrate", CalibrationPart),
        ("collect", LabelsPart),
    ):
        known = {option.name.removeprefix("--") for option in options_of(line, command)}
        missing = part.__dataclass_fields__.keys() - known - {"problems", "references", "folder"}
        assert not missing, (command, missing)
    for settings, part in ((CollectionSettings, LabelsPart), (StepCalibration, CalibrationPart)):
        lacking = {item.name for item in dataclasses.fields(settings)} - part.__dataclass_fields__.keys()
        assert lacking <= {"drop_overlap"}, (part, lacking)  # which a recipe has with its problems


def test_selectors_of_the_paper_s_form_have_the_paper_s_loss() -> None:
    """They had the expected bin and temperature 0.1 of the paper, and the default loss, which is another."""
    papers = [
        part
        for name in shipped()
        for part in read_recipe(name).recipe.selectors.values()
        if part.score_as == "expected"
    ]
    assert len(papers) >= 4
    assert {(part.loss, part.form) for part in papers} == {("ce", "lookahead")}


def test_seeds_repeat_what_is_trained_or_random_and_nothing_else() -> None:
    recipe = read_recipe("paper").recipe
    names = [run.name for run in evaluations(recipe) if run.task == "s2t_gsm8k"]
    repeated = {name.removesuffix("-seed1") for name in names if name.endswith("-seed1")}
    assert repeated == {"distil", "maj8", "tah", "s2t_local", "pps_local"}
    assert {"greedy", "s2t", "takeover", "teacher"} <= set(names) and "s2t-seed1" not in names
    code = {run.method for run in evaluations(recipe) if run.task == "s2t_humaneval"}
    assert "maj8" not in code and "greedy" in code  # programs cannot be voted on
    stages = stages_of("paper")
    second = stages["s2t_gsm8k/s2t_local-seed2"]
    assert "selector-seed2" in second.needs and ",seed=2" in " ".join(second.command)
    assert "--seed 2" in " ".join(stages["selector-seed2"].command)
    assert "seed=" not in " ".join(stages["s2t_gsm8k/s2t_local"].command)


def test_a_chosen_selector_is_a_copy_of_the_trained_one() -> None:
    """`choose` rewrites its folder: in place, the selector would look as if it were to be trained again."""
    stages = stages_of("qwen-gsm8k")
    chosen, selector = stages["chosen"], stages["selector"]
    assert chosen.copy_of == selector.output != chosen.output
    assert set(chosen.needs) == {"chosen.scan", "selector"}
    assert "chosen" in stages["s2t_gsm8k/pps_local"].needs
    assert "selector" in stages["s2t_gsm8k/s2t_router_tau5"].needs
    assert stages["looped"].copy_of == stages["looped.passes"].output


def test_a_round_labels_the_same_problems_on_the_texts_of_a_selector() -> None:
    """Other problems, or labels at other steps, would hold other problems out than the first round."""
    stages = stages_of("embedded-search")
    names = list(stages)
    assert names.index("curve_1600") < names.index("own_texts") == names.index("second_round") - 1
    first, again, second = stages["labels"], stages["own_texts"], stages["second_round"]
    assert again.needs == {"curve_1600": stages["curve_1600"].output} and again.kind == "collect"
    written = " --selector /out/trained/curve_1600 --selector_trigger kl --selector_tau 0.05"
    expected = " ".join(first.command).replace(" --out /out/labels", f"{written} --out /out/rounds/own_texts")
    assert " ".join(again.command) == expected
    assert set(second.needs) == {"own_texts", "curve_1600"}
    words = " ".join(second.command)
    assert words.count("--labels") == 1 and "--labels /out/rounds/own_texts" in words
    assert "--labels /out/labels" in " ".join(stages["curve_1600"].command)


def test_labels_that_are_reused_are_inputs_of_the_collection_alone(tmp_path: Path) -> None:
    """A round's texts are those of a selector, which no finished set of greedy texts holds."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "manifest.json").write_text("{}")
    stages = stages_of("embedded-search", f"labels.reuse=[{tmp_path / 'part'}]")
    assert f" --reuse {tmp_path / 'part'} --out /out/labels" in " ".join(stages["labels"].command)
    assert stages["labels"].files == (tmp_path / "part",)
    assert "--reuse" not in stages["own_texts"].command and not stages["own_texts"].files


def test_a_round_of_half_of_the_problems_labels_the_first_ones() -> None:
    stages = stages_of("embedded-search", "rounds.own_texts.limit=2000")
    assert "--limit 4000" in " ".join(stages["labels"].command)
    assert "--limit 2000" in " ".join(stages["own_texts"].command)


def test_a_round_of_each_seed_is_written_by_the_selector_of_that_seed() -> None:
    stages = stages_of("embedded-search", "seeds=[0, 1]")
    assert set(stages["own_texts-seed1"].needs) == {"curve_1600-seed1"}
    assert set(stages["second_round-seed1"].needs) == {"own_texts-seed1", "curve_1600-seed1"}


def test_agreement_is_measured_for_the_selectors_of_every_seed() -> None:
    """Only those of the first seed had a point beside the rule of shares."""
    command = stages_of("qwen-gsm8k", "seeds=[0, 1]")["analysis"].command
    for name in ("selector", "selector-seed1", "chosen", "chosen-seed1"):
        assert any(word.endswith(f"/{name}") for word in command), name


def test_the_table_of_the_real_pair_is_whole() -> None:
    stages = stages_of("qwen-gsm8k")
    runs = {name.partition("/")[2] for name, stage in stages.items() if stage.kind == EVALUATE}
    assert runs == {
        *("greedy", "maj1", "maj2", "maj4", "maj8", "distil", "tah", "s2t_tau1", "s2t_tau5", "takeover_tau5"),
        *("s2t_router_tau5", "pps_local", "pps_local_tau5", "s2t_local_tau1", "s2t_local_tau5", "teacher"),
        *("s2t_paper_router_tau1", "s2t_paper_router_tau5"),
    }
    command = stages["s2t_gsm8k/greedy"].command
    documents = json.loads(command[command.index("--samples") + 1])
    assert documents == {"s2t_gsm8k": list(range(400, 1000))}
    transfer = {"greedy", "maj8", "distil", "s2t_tau5", "pps_local", "teacher"}
    for task, methods in (
        ("s2t_math500", transfer),
        ("s2t_humaneval", transfer - {"maj8"}),  # it compares answers, which code does not have
        ("s2t_mmlu_pro", transfer),
    ):
        of_task = [name for name, stage in stages.items() if stage.kind == EVALUATE and task in stage.tasks]
        assert {name.partition("/")[2] for name in of_task} == methods
    command = stages["s2t_mmlu_pro/greedy"].command
    documents = json.loads(command[command.index("--samples") + 1])
    assert len(documents["s2t_mmlu_pro"]) == 140  # ten of each category
    assert (
        "s2t_gsm8k_dev" in stages["calibration"].command and "s2t_gsm8k_dev" in stages["chosen.scan"].command
    )


@pytest.mark.parametrize(
    ("name", "changes", "has_published"),
    [
        ("qwen-gsm8k", (), True),  # of another student: in blocks of their own
        ("paper", (), True),
        ("embedded", (), False),  # on no benchmark of theirs
        ("embedded", ("tasks=[{task: s2t_math}]",), True),
    ],
)
def test_published_numbers_are_in_the_report_of_their_benchmarks(
    name: str, changes: tuple[str, ...], has_published: bool
) -> None:
    """Five of six recipes ended without any, because their students are other ones."""
    command = stages_of(name, *changes)["report"].command
    assert ("--no_published" not in command) == has_published


@pytest.mark.parametrize("trust", [False, True])
def test_the_analysis_of_labels_knows_where_lines_begin(trust: bool) -> None:
    """The study of triggers had no `line_entropy`, which needs the student's tokenizer."""
    command = stages_of("qwen-gsm8k", f"models.trust={str(trust).lower()}")["analysis"].command
    assert "--labels" in command and ("--pretrained" in command) is not trust
    assert ("--trace" in command) is not trust  # the student of a trace is loaded without such code


def test_the_analysis_of_traces_is_bounded_and_where_the_models_are() -> None:
    """It scored 600 texts one by one on the CPU beside a GPU: an hour, of which the plan knew nothing."""
    stage = stages_of("qwen-gsm8k", "models.device=cuda")["analysis"]
    words = " ".join(stage.command)
    assert f" --texts {RESCORED_TEXTS} --device cuda " in words
    assert stage.work.parameter_tokens > 0
    shorter = stages_of("qwen-gsm8k", "limits.documents=4")["analysis"].work
    assert shorter.parameter_tokens == pytest.approx(stage.work.parameter_tokens * 4 / RESCORED_TEXTS)


@pytest.mark.parametrize("name", ["qwen-gsm8k", "qwen-gsm8k-gpu", "paper"])
def test_the_distilled_student_visits_the_selectors_texts_as_often(name: str) -> None:
    """Once it had a quarter of a selector's visits; a comment says that they are equal now."""
    recipe = read_recipe(name).recipe

    def budget(part: SelectorPart | DistilPart) -> tuple[object, ...]:
        texts_a_step = (part.batch_size or 0) * (part.accumulate or 0)
        return part.limit, part.epochs, part.held_out, texts_a_step, part.rank

    [distilled] = recipe.distilled.values()
    assert {budget(part) for part in recipe.selectors.values()} == {budget(distilled)}
    assert all(part.labels is None for part in recipe.selectors.values())  # the labels of the recipe


def test_the_search_on_the_real_pair_is_whole() -> None:
    """It was a plan alone: the embedded pair had a recipe of the search, the real one none."""
    recipe = read_recipe("qwen-gsm8k-search").recipe
    parts = recipe.selectors
    curve = {name: part for name, part in parts.items() if name.startswith("curve_")}
    assert sorted(part.limit or 0 for part in curve.values()) == [180, 360, 720]
    assert {(one.lr, one.batch_size, one.accumulate) for one in curve.values()} == {(3e-4, 2, 1)}
    others = [part for name, part in parts.items() if name not in curve]
    assert {part.limit for part in others} == {720} and {part.rank for part in others} == {64}
    texts = {(part.batch_size or 0) * (part.accumulate or 0) for part in others}
    assert texts == {16, 32} and {part.lr for part in others} == {5e-5, 1e-4, 2e-4}
    assert {(part.schedule, part.average_last) for part in others} == {("linear", 0.33)}
    assert {part.beta for part in others if part.anchor == "labels"} == {0.05, 0.1}
    assert parts["regret_half"].regret == 0.5 and parts["no_misses"].drop_misses
    assert parts["k_8"].num_candidates == 8
    # the last step is kept, whatever its figures, and one half of the held-out problems reports
    assert {(part.keep, part.held_out) for part in parts.values()} == {("last", 0.2)}
    assert recipe.labels is not None and recipe.labels.problems is not None
    assert recipe.labels.problems.limit == 900  # 720 and a fifth
    stages = stages_of("qwen-gsm8k-search")
    words = stages["analysis"].command
    for name in parts:
        row = recipe.methods[name]
        assert row.model == "pps_local" and row.arguments["selector"] == f"${{{name}}}"
        assert (row.arguments["trigger"], row.arguments["tau"]) == ("kl", 0.05)
        assert name in stages[f"s2t_gsm8k_dev/{name}"].needs
        assert any(word.endswith(f"trained/{name}") for word in words[words.index("--agreement") :])


@pytest.mark.parametrize("name", ["qwen-gsm8k", "qwen-gsm8k-gpu", "embedded-search"])
def test_a_selector_at_its_router_s_steps_has_the_teacher_s_picks_there_beside_it(name: str) -> None:
    """Its share of the gain was measured at the steps of another selector's router."""
    rows = read_recipe(name).recipe.methods.values()

    def steps(row: MethodPart) -> tuple[object, ...]:
        folder = row.arguments.get("router") or row.arguments["selector"]
        return folder, row.arguments["tau"]

    at_router = [row for row in rows if row.arguments.get("trigger") == "router"]
    local = {steps(row) for row in at_router if row.model in ("s2t_local", "pps_local")}
    assert local and local <= {steps(row) for row in at_router if row.model == "s2t"}


def test_the_compared_systems_follow_what_they_need() -> None:
    """R2R's router is trained and SpecReason's steps are calibrated in the same command."""
    stages = stages_of("qwen-gsm8k-compared")
    assert list(stages)[:5] == ["calibration", "labels", "router.labels", "rewarded", "router"]
    assert "--step_score digit expected logprob" in " ".join(stages["calibration"].command)
    assert "--teacher" in stages["router.labels"].command and "--rule" in stages["router.labels"].command
    assert set(stages["router"].needs) == {"router.labels"}
    assert set(stages["rewarded"].needs) == {"labels"} and "--teacher" in stages["rewarded"].command
    assert "--precision bf16" in " ".join(stages["rewarded"].command)
    assert "--precision" not in stages["router"].command  # the router is in float32 beside a narrow student
    assert stages["router"].work.parameter_tokens < stages["router.labels"].work.parameter_tokens
    for name, need in {
        "r2r_tau5": "router",
        "s2t_r2r_tau5": "router",
        "specreason_digit": "calibration",
        "rlkd": "rewarded",
    }.items():
        assert need in stages[f"s2t_gsm8k/{name}"].needs
    words = stages["s2t_gsm8k/tot"].command
    documents = json.loads(words[words.index("--samples") + 1])
    assert documents == {"s2t_gsm8k": list(range(400, 600))}
    assert "max_gen_toks=512" in words[words.index("--gen_kwargs") + 1]
    vote = stages["s2t_gsm8k/maj8"].work.parameter_tokens
    assert stages["s2t_gsm8k/tot"].work.parameter_tokens == vote  # its budget is a vote's


def test_what_a_calibration_or_labelling_keeps_is_removed_when_it_is_done_or_set_aside() -> None:
    stages = stages_of("paper")
    for name in ("calibration", "looped.labels"):
        assert stages[name].scratch == (unfinished_folder(stages[name].output),)


def test_a_router_needs_a_teacher() -> None:
    with pytest.raises(RecipeError, match=r"models\.teacher: labels, distillation and routers need one"):
        read_recipe("qwen-gsm8k-compared", ["models.teacher=null"])


RESULTS = Path(__file__).resolve().parents[2] / "results/baselines"
REAL_PAIR = Path(__file__).resolve().parents[2] / "benchmarks/qwen_gsm8k.yaml"


@pytest.mark.parametrize(
    ("recipe", "calibration"),
    [
        ("embedded", "embedded"),
        ("qwen-gsm8k-compared", "gsm8k-qwen-h100"),
        ("qwen-gsm8k-gpu", "gsm8k-qwen-h100"),
        (str(REAL_PAIR), "gsm8k-qwen-h100"),
    ],
)
def test_a_tree_may_generate_what_a_vote_does(recipe: str, calibration: str) -> None:
    """The rows of the real pair had the default, 2,040 tokens; `maj8` writes about 2,350 there."""
    measured = json.loads((RESULTS / calibration / "calibration.json").read_text())
    vote = DEFAULT_SAMPLES * measured["num_steps"] / measured["num_texts"]
    rows = [row for row in read_recipe(recipe).recipe.methods.values() if row.model == "tot"]
    assert rows
    for row in rows:
        assert row.arguments["budget"] == pytest.approx(vote, rel=0.01)


def test_a_tree_is_left_out_of_code_and_repeated_by_seeds(tmp_path: Path) -> None:
    """It refuses programs as a vote does: its run would end a reproduction with an error after hours."""
    text = RECIPE_WITH_A_TREE
    names = [run.name for run in evaluations(read_recipe(write(tmp_path, text)).recipe)]
    assert names == ["greedy", "greedy", "tot", "tot-seed1"]


RECIPE_WITH_A_TREE = """
title: a tree
models: {student: embedded/student}
methods: {greedy: {model: greedy}, tot: {model: tot}}
tasks: [{task: s2t_humaneval}, {task: s2t_gsm8k}]
seeds: [0, 1]
"""


def test_results_are_made_of_the_runs_of_this_recipe_alone() -> None:
    """The folder of a whole task was read: a method that was dropped or renamed stayed in the report."""
    tree = read_recipe("paper", ["seeds=[0, 1]"])
    stages = {stage.name: stage for stage in build_stages(tree, Path("/out"))}
    runs = [stage for stage in stages.values() if stage.kind == EVALUATE]
    places = [str(stage.output) for stage in runs]
    for name, until in (("report", "--title"), ("analysis", "--trace")):
        words = stages[name].command
        begin = words.index("--results") if name == "analysis" else words.index("report")
        assert list(words[begin + 1 : words.index(until)]) == places
        assert set(stages[name].needs) >= {stage.name for stage in runs}
    of_task = [str(stage.output) for stage in runs if stage.tasks == ("s2t_mmlu_pro",)]
    words = stages["s2t_mmlu_pro/kept"].command
    assert list(words[words.index("keep") + 1 : words.index("--out")]) == of_task
    assert 0 < len(of_task) < len(places)


WITH_A_TEACHER = (
    "models.teacher=embedded/teacher",
    "labels={problems: {task: s2t_arith}}",
    "calibration={problems: {task: s2t_arith}}",
    "routers={router: {problems: {task: s2t_arith}}}",
    "distilled={distilled: {}}",
    "rlkd={rewarded: {}}",
    "rounds={own_texts: {selector: first}}",
    "selectors={first: {form: direct}, second: {labels: own_texts, form: direct}}",
    'methods.s2t={model: s2t, arguments: {teacher: "${teacher}"}}',
)
TEACHER_LOADERS = ("calibration", "labels", "own_texts", "router.labels", "distilled", "rewarded")


def test_the_teacher_s_dtype_holds_in_every_step_that_loads_it(tmp_path: Path) -> None:
    """Labels and thresholds were of a teacher in the student's dtype, evaluations of one in its own."""
    recipe = write(tmp_path, RECIPE_WITH_A_TREE)
    plain = stages_of(recipe, *WITH_A_TEACHER)
    assert not any("teacher_args" in word for stage in plain.values() for word in stage.command)
    stages = stages_of(recipe, *WITH_A_TEACHER, "models.teacher_dtype=float16")
    found = {name: " ".join(stage.command) for name, stage in stages.items() if "--teacher" in stage.command}
    assert found.keys() == {*TEACHER_LOADERS, "own_texts-seed1", "distilled-seed1", "rewarded-seed1"}
    for name, words in found.items():
        trains = name.startswith(("distilled", "rewarded"))
        given = "--teacher_dtype float16" if trains else "--teacher_args dtype=float16"
        assert f"--teacher embedded/teacher {given}" in words, name
        assert CommandLine(cli.COMMANDS).parse(stages[name].command[1:]) is not None
    assert "teacher_dtype=float16" in " ".join(stages["s2t_gsm8k/s2t"].command)


IN_4_BITS = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}
IN_8_BITS = {"quantization_config": {"quant_method": "quanto", "weights": "int8"}}


@pytest.mark.parametrize("teacher_args", [IN_4_BITS, IN_8_BITS])
def test_every_step_and_row_loads_the_same_teacher(teacher_args: dict[str, object], tmp_path: Path) -> None:
    """A row with a quantized teacher was refused the thresholds of the recipe's own calibration, which no
    recipe could measure with the teacher in that form."""
    rows = {
        "s2t": {"model": "s2t", "arguments": {"teacher": "${teacher}"}},
        "whole": {"model": "s2t", "arguments": {"teacher": "${teacher}", "teacher_load_in_4bit": None}},
        "other": {"model": "s2t", "arguments": {"teacher": "embedded/student"}},
        "served": {"model": "s2t", "arguments": {"teacher": "${teacher}", "teacher_url": "http://host:8002"}},
        "teacher": {"model": "greedy", "arguments": {"pretrained": "${teacher}"}},
        "stock": {"model": "hf", "arguments": {"pretrained": "${teacher}"}},
    }
    changes = [*WITH_A_TEACHER, "models.teacher_dtype=float16", f"methods={json.dumps(rows)}"]
    recipe = write(tmp_path, RECIPE_WITH_A_TREE)
    plain = stages_of(recipe, *changes)
    stages = stages_of(recipe, *changes, f"models.teacher_args={json.dumps(teacher_args)}")
    loading = {"dtype": "float16", **teacher_args}
    for name in TEACHER_LOADERS:
        command = stages[name].command
        assert CommandLine(cli.COMMANDS).parse(command[1:]) is not None
        read = read_teacher_args(command[command.index("--teacher_args") + 1])
        trains = name in ("distilled", "rewarded")
        assert read == (teacher_args if trains else loading), name
    as_teachers = {f"teacher_{name}": value for name, value in loading.items()}
    assert as_teachers.items() <= arguments_of(stages["s2t_gsm8k/s2t"]).items()
    assert loading.items() <= arguments_of(stages["s2t_gsm8k/teacher"]).items()
    assert loading.items() <= arguments_of(stages["s2t_gsm8k/stock"]).items()
    assert "teacher_load_in_4bit" not in arguments_of(stages["s2t_gsm8k/whole"])
    for name in ("s2t_gsm8k/other", "s2t_gsm8k/served", "s2t_gsm8k/greedy", "first"):
        assert (name in plain) == (name in stages)
        assert name not in plain or stages[name].command == plain[name].command


def test_files_of_the_teacher_s_arguments_are_inputs_of_what_loads_it(tmp_path: Path) -> None:
    """Another adapter in the same folder is another teacher."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    recipe = write(tmp_path, RECIPE_WITH_A_TREE)
    stages = stages_of(recipe, *WITH_A_TEACHER, f"models.teacher_args={{peft: {adapter}}}")
    for name in (*TEACHER_LOADERS, "s2t_gsm8k/s2t"):
        assert adapter in stages[name].files, name
    assert adapter not in stages["first"].files


SAME_NAMES = {
    "methods={kept: {model: greedy}}": "s2t_humaneval/kept",
    "methods={tot: {model: tot}, tot-seed1: {model: greedy}}": "s2t_gsm8k/tot-seed1",
    "tasks=[{task: s2t_gsm8k, methods: [greedy, greedy]}]": "s2t_gsm8k/greedy",
    "selectors={report: {}}": "report",
    "selectors={mine-labels: {}}": "mine-labels",
}


@pytest.mark.parametrize(("change", "name"), SAME_NAMES.items())
def test_two_steps_of_one_name_or_one_place_are_refused(change: str, name: str, tmp_path: Path) -> None:
    """They shared one record and one folder, and each ran again after the other, for ever."""
    more = [f"labels.folder={tmp_path}", "tah={mine: {problems: {task: s2t_gsm8k}}}"]
    with pytest.raises(RecipeError, match=rf"mine\.yaml: {name}: the names of the recipe make two steps"):
        stages_of(write(tmp_path, RECIPE_WITH_A_TREE), *more, change)


def test_two_revisions_of_one_model_are_downloaded_into_two_folders() -> None:
    """An early and a late checkpoint as student and teacher: the second replaced the first."""
    models = "models={student: A/m, student_revision: early, teacher: A/m, teacher_revision: late}"
    stages = stages_of("paper", models)
    assert str(stages["download.student"].output) == "/out/models/m"
    assert str(stages["download.teacher"].output) == "/out/models/m-teacher"
    words = " ".join(stages["s2t_gsm8k/s2t"].command)
    assert "pretrained=/out/models/m," in words and "teacher=/out/models/m-teacher," in words


def test_the_device_of_stock_hf_is_an_option_of_lm_eval(tmp_path: Path) -> None:
    """As an argument of the model it came twice, and every run of stock hf ended with a TypeError."""
    more = ["models.device=cpu", "methods.stock={model: hf}", "tasks=[{task: s2t_gsm8k}]"]
    stages = stages_of(write(tmp_path, RECIPE_WITH_A_TREE), *more)
    words = stages["s2t_gsm8k/stock"].command
    assert words[words.index("--device") + 1] == "cpu"
    assert words[words.index("--model_args") + 1] == "dtype=auto,pretrained=embedded/student"
    ours = stages["s2t_gsm8k/greedy"].command
    assert "--device" not in ours and "device=cpu" in ours[ours.index("--model_args") + 1]
    own = stages_of(write(tmp_path, RECIPE_WITH_A_TREE), *more, "methods.stock.arguments={device: 'cuda:1'}")
    assert "--device cuda:1 " in " ".join(own["s2t_gsm8k/stock"].command)


def test_a_column_without_a_method_is_refused(tmp_path: Path) -> None:
    """A vote compares answers, which code does not have: the report found no results of its task."""
    recipe = write(tmp_path, RECIPE_WITH_A_TREE)
    with pytest.raises(RecipeError, match="tasks: no method can be evaluated on s2t_humaneval, because"):
        stages_of(recipe, "tasks=[{task: s2t_gsm8k}, {task: s2t_humaneval, methods: [tot]}]")


NEEDS_A_TEACHER = {
    "calibration={problems: {task: s2t_gsm8k}, step_score: [logprob]}": r"calibration\.step_score",
    "rlkd={rewarded: {}}": r"rlkd\.rewarded has its texts as references and needs one",
    "rlkd={rewarded: {references: solutions, aligner: llm}}": "aligner: llm prompts the teacher",
}


@pytest.mark.parametrize(("change", "message"), NEEDS_A_TEACHER.items())
def test_what_needs_a_teacher_is_refused_before_anything_runs(
    change: str, message: str, tmp_path: Path
) -> None:
    """The score of a step without a teacher was refused by `calibrate`, after its models were loaded."""
    recipe = write(tmp_path, RECIPE_WITH_A_TREE)
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe, [f"labels.folder={tmp_path}", change])


def test_rlkd_takes_the_problems_own_solutions_without_a_teacher(tmp_path: Path) -> None:
    recipe = write(tmp_path, RECIPE_WITH_A_TREE)
    change = "rlkd={rewarded: {references: solutions, group_size: 8}}"
    stage = stages_of(recipe, f"labels.folder={tmp_path}", change)["rewarded"]
    assert "--teacher" not in stage.command and "--references" not in stage.command
    assert stage.command[stage.command.index("--group_size") + 1] == "8"


def test_rlkds_estimate_counts_the_texts_that_the_teacher_writes() -> None:
    """It counted one for each problem of `limit`, where the teacher wrote one for every labelled problem."""

    def tokens(*changes: str) -> float:
        return stages_of("qwen-gsm8k-gpu", *changes)["rewarded"].work.parameter_tokens

    limited, unlimited = tokens(), tokens("rlkd.rewarded.max_held_out=null")
    without = tokens("rlkd.rewarded.references=solutions")
    assert without < limited < unlimited
    needed = 2 * max(384 / 0.9, 64 / 0.1)
    assert (limited - without) / (unlimited - without) == pytest.approx(needed / 6973)
    assert tokens("rlkd.rewarded.unverified=true") - without == pytest.approx((limited - without) / 2)


def test_a_selectors_estimate_counts_what_its_form_computes() -> None:
    """The paper's form was taken for `direct`: without the candidates that it appends, the second pass of its
    regularizer and the texts that routers read, a half to a third of the real work."""
    settings = "limits.max_gen_toks=500", "labels.problems.limit=1000", "models.student=some/student-0.5B"
    text, written = 150 + 300, 300

    def passes(selector: str) -> float:
        """Tokens that the student processes for each labelled text."""
        stages = stages_of("qwen-gsm8k", *settings, f"selectors.one={selector}")
        return stages["one"].work.parameter_tokens / 1000 / 0.5e9

    bare = "epochs: 2, skip_routers: true"
    assert passes(f"{{{bare}, beta: 0}}") == pytest.approx(2 * 3 * text)
    assert passes(f"{{{bare}}}") == pytest.approx(2 * 4 * text)  # beta is 0.1, at every position of the text
    assert passes(f"{{{bare}, anchor: labels}}") == pytest.approx(2 * 3 * text)
    appended = text + 0.1 * 16 * written
    assert passes(f"{{{bare}, form: lookahead, beta: 0}}") == pytest.approx(2 * 3 * appended)
    assert passes(f"{{{bare}, form: lookahead}}") == pytest.approx(2 * 4 * appended)
    more = text + (0.1 + 0.3 * 0.9) * 8 * written
    options = "form: residual, beta: 0, low_kl_fraction: 0.3, num_candidates: 8"
    assert passes(f"{{{bare}, {options}}}") == pytest.approx(2 * 3 * more)
    assert passes("{epochs: 2, beta: 0}") == pytest.approx((2 * 3 + 1) * text)
    both = 2 * 4 * appended + 2 * text
    assert passes("{epochs: 2, form: lookahead}") == pytest.approx(both)


def test_a_selectors_estimate_has_as_many_appended_tokens_as_its_batches() -> None:
    labelled = LabelSet.load(labels())
    rows, tau = list(labelled), labelled.manifest.tau
    for fraction in (0.0, 0.3):
        items = make_items(rows, 16, labelled.manifest.kl_threshold, fraction)
        texts = {row.source: len(row.text_ids) for row in rows}
        batches = [pack([item], branches=True, whole_text=True) for item in items]
        appended = sum(
            batch.input_ids.shape[1] - texts[item.source] for item, batch in zip(items, batches, strict=True)
        )
        written = sum(len(row.output_ids) for row in rows)
        assert appended / written == pytest.approx((tau + fraction * (1 - tau)) * 16, rel=0.1)


def test_the_rate_of_labels_that_are_there_is_their_manifests(tmp_path: Path) -> None:
    def tokens(*changes: str) -> float:
        return stages_of("qwen-gsm8k", *changes)["paper_selector"].work.parameter_tokens

    there = f"labels.folder={tmp_path}", "labels.problems=null"
    (tmp_path / "manifest.json").write_text('{"data": {"problems": 6973}, "tau": 0.2}')
    twice_as_many = tokens("labels.tau=0.2")
    assert tokens(*there) == pytest.approx(twice_as_many) and twice_as_many > 1.2 * tokens()


def test_a_narrow_student_is_trained_in_narrow_precision() -> None:
    assert "--precision" in stages_of("qwen-gsm8k")["selector"].command
    wide = stages_of("qwen-gsm8k", "models.dtype=float32")
    assert "--precision" not in wide["selector"].command
    given = stages_of("qwen-gsm8k", "selectors.selector.precision=no")
    words = given["selector"].command
    assert words.count("--precision") == 1 and words[words.index("--precision") + 1] == "no"


def test_labels_that_are_there_are_not_collected(tmp_path: Path) -> None:
    stages = stages_of("qwen-gsm8k", f"labels.folder={tmp_path}", "labels.problems=null")
    assert "labels" not in stages
    assert str(tmp_path) in stages["selector"].command and tmp_path in stages["selector"].files
    (tmp_path / "manifest.json").write_text('{"data": {"problems": 1000}}')
    counted = stages_of("qwen-gsm8k", f"labels.folder={tmp_path}", "labels.problems=null")
    assert counted["selector"].work.parameter_tokens == 2 * stages["selector"].work.parameter_tokens


def test_a_model_with_a_revision_is_downloaded_first() -> None:
    stages = stages_of("paper", "models.student_revision=abc")
    assert next(iter(stages)) == "download.student"
    place = "/out/models/Qwen2.5-0.5B-Instruct"
    assert str(stages["download.student"].output) == place
    assert place in stages["calibration"].command and "download.student" in stages["calibration"].needs
    assert "download.student" in stages["s2t_gsm8k/greedy"].needs


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    recipe = write(tmp_path)
    with pytest.raises(RecipeError, match=r"\$\{calibration\} is used, and the recipe names none"):
        stages_of(recipe, "methods.s2t.arguments.calibration=${calibration}")


@pytest.mark.parametrize(
    "value",
    ["a,b", "[a", "it's", "{x", 'say "so"', ["a", "b"], {"quant_method": "quanto", "weights": "int8"}],
)
def test_a_value_of_any_form_reaches_the_model(value: object, tmp_path: Path) -> None:
    """A comma was refused, and lm_eval read quotes and brackets as the beginning of a longer value."""
    change = f"methods.s2t.arguments.more={json.dumps(value)}"
    stage = stages_of(write(tmp_path), change)["s2t_arith/s2t"]
    assert arguments_of(stage)["more"] == value
    assert arguments_of(stage)["threshold"] == 2.4


def arguments_of(stage: Stage) -> dict[str, object]:
    """What lm_eval's own command line reads from the words of an evaluation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_args", nargs="+", action=MergeDictAction)
    given = stage.command[stage.command.index("--model_args") :][:2]
    parsed: dict[str, object] = parser.parse_args(given).model_args
    assert parsed == parse_model_args(given[1])
    return parsed


def test_a_scan_has_name_value_pairs_alone(tmp_path: Path) -> None:
    recipe = write(tmp_path)
    changes = ["labels={folder: here}", "selectors={mine: {form: direct}}"]
    choice = "choices={one: {selector: mine, task: s2t_arith_dev, tau: [0.1, 1], arguments: {stop: 'a,b'}}}"
    with pytest.raises(RecipeError, match=r"one\.scan: a scan reads its arguments as name=value pairs, and"):
        stages_of(recipe, *changes, choice)


def test_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert selected_documents(TaskPart(task="t"), None) == Documents()
    assert selected_documents(TaskPart(task="t", limit=9), 4) == Documents(limit=4)
    assert selected_documents(TaskPart(task="t", documents="5-9,2"), 3) == Documents((2, 5, 6))
    assert Documents(limit=4).options("t") == ["--limit", "4"] and Documents().options("t") == []
    monkeypatch.setenv("S2T_DATA", str(write_benchmarks(tmp_path)))
    first = TaskPart(task="s2t_mmlu_pro", limit_of_each={"answer": 1, "category": 1})
    assert selected_documents(first, None) == Documents((0, 1))  # B and A; the first of category other
    with pytest.raises(ValueError, match="documents have no field 'subject'; there are question"):
        selected_documents(TaskPart(task="s2t_mmlu_pro", limit_of_each={"subject": 1}), None)


def test_documents_that_a_task_lacks_are_refused_before_any_step(tmp_path: Path) -> None:
    """`documents: 400-599` of MATH500, which has 500, ended the run when the row began, hours later."""
    assert selected_documents(TaskPart(task="s2t_math500", documents="498-499"), None).ids == (498, 499)
    assert selected_documents(TaskPart(task="another", documents="5000"), None).ids == (5000,)
    recipe = write(tmp_path)
    message = "tasks, s2t_math500: expected documents from 0 to 499, got 500 and 99 more above it"
    with pytest.raises(RecipeError, match=message):
        stages_of(recipe, "tasks=[{task: s2t_math500, documents: 400-599}]")


def test_the_folder_of_every_benchmark_is_known() -> None:
    """A changed data file runs what read it again; a task that is missing here would not."""
    named = {}
    for path in TASKS.rglob("*.yaml"):
        found = re.search(r"benchmark_data\.(\w+)", path.read_text())
        if found:
            named[path.stem.removeprefix("s2t_")] = found[1]
    from s2t_eval.evaluation import benchmark_data

    assert named.keys() == DATA_FOLDERS.keys()
    for task, function in named.items():
        assert DATA_FOLDERS[task] == getattr(benchmark_data, function.upper()).folder
    names = {path.stem.removeprefix("s2t_").removesuffix("_dev") for path in TASKS.rglob("s2t_*.yaml")}
    groups = {
        content["group"]: tuple(content["task"])
        for path in (TASKS / "s2t_groups").glob("*.yaml")
        if (content := yaml.safe_load(path.read_text()))
    }
    assert groups == GROUPS
    assert names == {*DATA_FOLDERS, *BUILT_IN, *(group.removeprefix("s2t_") for group in GROUPS)}


def test_a_group_is_evaluated_task_by_task() -> None:
    """`--samples` of a group was ignored, so all documents were evaluated; code was not confirmed; and the
    command ended with "too many values to unpack" at the summary, behind everything else."""
    part = "{task: s2t_paper, documents: 0-9, methods: [greedy]}"
    stages = stages_of("embedded", f"tasks=[{part}, {{task: s2t_arith, limit: 4}}]")
    runs = [stage for stage in stages.values() if stage.kind == EVALUATE and stage.tasks != ("s2t_arith",)]
    assert [stage.name.partition("/")[0] for stage in runs] == [
        *("s2t_gsm8k", "s2t_math500", "s2t_olympiadbench", "s2t_aime25", "s2t_humaneval", "s2t_mmlu_pro")
    ]
    for stage in runs:
        [task], words = stage.tasks, stage.command
        assert stage.name == f"{task}/greedy"
        assert words[words.index("--tasks") + 1] == task
        assert json.loads(words[words.index("--samples") + 1]) == {task: list(range(10))}
        assert ("--confirm_run_unsafe_code" in words) == (task == "s2t_humaneval")
        assert f"{task}/kept" in stages
    assert "s2t_arith/teacher" in stages and "s2t_gsm8k/teacher" not in stages


def test_what_a_task_of_a_group_lacks_is_refused_as_for_the_task_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field of the documents that one of the group's benchmarks does not have, and a code benchmark."""
    monkeypatch.setenv("S2T_DATA", str(write_benchmarks(tmp_path)))
    for task in ("s2t_gsm8k", "s2t_math"):
        with pytest.raises(ValueError, match="tasks, s2t_gsm8k: documents have no field 'category'"):
            stages_of("embedded", f"tasks=[{{task: {task}, limit_of_each: {{category: 1}}}}]")
    for task in ("s2t_humaneval", "s2t_paper"):
        with pytest.raises(RecipeError, match="no method can be evaluated on s2t_humaneval"):
            stages_of("embedded", f"tasks=[{{task: {task}, methods: [maj8]}}]")


def test_the_recipe_of_the_guide_is_one(tmp_path: Path) -> None:
    guide = (TASKS.parent / "docs" / "guides" / "reproduce.md").read_text()
    [recipe] = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    stages = stages_of(write(tmp_path, recipe))
    assert "chosen" in stages["s2t_gsm8k/pps_local"].needs
    sections = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", guide, re.MULTILINE))))
    assert sections >= Recipe.__dataclass_fields__.keys() - {"title", "analysis"}


def test_the_recipe_of_the_quickstart_is_one(tmp_path: Path) -> None:
    """No page led from a pair of models to a vote, R2R and selection in one table."""
    page = (TASKS.parent / "docs" / "quickstart.md").read_text()
    [recipe] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    stages = stages_of(write(tmp_path, recipe))
    rows = {f"s2t_gsm8k/{name}" for name in ("greedy", "maj8", "s2t", "r2r", "teacher")}
    assert rows <= set(stages["report"].needs)
    assert "calibration" in stages["s2t_gsm8k/s2t"].needs
    assert "router" in stages["s2t_gsm8k/r2r"].needs
    again = {name.removesuffix("-seed2") for name in stages["report"].needs if name.endswith("-seed2")}
    assert again == {"s2t_gsm8k/maj8", "s2t_gsm8k/r2r"}  # as the page says: greedy decoding runs once


def test_recipes_are_plain_yaml() -> None:
    paths = sorted((TASKS.parent / "recipes").glob("*.yaml"))
    assert {"embedded", "paper", "qwen-gsm8k"} <= {path.stem for path in paths}
    for path in paths:
        assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_estimates_of_votes_take_the_method_s_own_number_of_samples() -> None:
    assert SamplingArguments.num_samples == DEFAULT_SAMPLES


def test_a_model_is_counted_in_its_files_or_taken_by_its_name(tmp_path: Path) -> None:
    """A file that Git LFS had not fetched ended `--plan` in a traceback."""
    whole, pointer = tmp_path / "Counted-7B", tmp_path / "Pointer-0.5B"
    for folder in (whole, pointer):
        folder.mkdir()
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.ones(())}, whole / "a.safetensors")
    save_file({"c": torch.zeros(4)}, whole / "b.safetensors")
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    assert parameters(str(whole)) == 11
    assert parameters(str(pointer)) == 0.5e9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "methods.s2t_kl_tau5.arguments.tau=0.02",
            r"s2t_arith/s2t_kl_tau5: tau=0\.02: the recipe's .*kl:st",
        ),
        ("methods.s2t_entropy_tau5.arguments.tau=1", None),
        ("methods.s2t_random_tau5.arguments.tau=0.02", None),  # a random trigger needs no threshold
        ("calibration.tau=[0.01]", r"s2t_kl_tau5: tau=0\.05: .*\(it measures entropy, .* at 0\.01\)"),
        ("calibration.warmup_tokens=4", r"warmup_tokens=0: the recipe's calibration is measured with 4"),
        ("methods.specreason_rate80.arguments.accept_rate=0.5", r"accept_rate=0\.5: .* at 0\.6, 0\.7, 0\.8"),
        ("methods.specreason_rate80.arguments.delimiter=line", r"for accept:logprob:line:512 "),
        ("calibration.max_step=64", r"for accept:logprob:sentence:512 .*:sentence:64 at"),
        ("methods.pps_local_tau5.arguments.tau=0.03", r"embedded/selector: .*trigger router at tau=0\.03"),
        ("methods.r2r_tau5.arguments.tau=0.03", r"embedded/r2r: .* trigger router at tau=0\.03"),
        ("methods.pps_local_tau5.arguments.selector=${mine}", None),
        ("selectors.mine.form=lookahead", None),
    ],
)
def test_a_rate_that_nothing_measures_is_refused_before_anything_runs(change: str, said: str | None) -> None:
    """A method ended at its own run, after all trainings: "it has no threshold at tau=0.02"."""
    changes = ["labels={problems: {task: s2t_arith}}", "selectors={mine: {form: direct}}", change]
    read = read_recipe("embedded", changes)
    with nullcontext() if said is None else pytest.raises(RecipeError, match=said):
        require_arguments(read.recipe, build_stages(read, Path("/out")))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("{tau: [0.01, 0.2, 1]}", None),
        (
            "{tau: [0.01, 0.3]}",
            r"best\.scan: tau=0\.3: `s2t-eval train` measures a selector's threshold",
        ),
        ("{tau: [0.01, 0.2], arguments: {triger: router}}", r"best\.scan: .*unknown argument 'triger'"),
        ("{tau: [0.01, 0.2], arguments: {top_k: 4}}", r"arguments\.top_k: .*selectors\.NAME\.top_k"),
        ("{tau: [0.01, 0.2], model: s2t_local}", r"best\.scan: .*tau=0\.01 would have no effect: .* direct"),
    ],
)
def test_a_choice_is_checked_as_its_scan_will_run(choice: str, said: str | None) -> None:
    part = f"choices={{best: {{selector: mine, task: s2t_arith_dev, {choice[1:-1]}}}}}"
    changes = ["labels={problems: {task: s2t_arith}}", "selectors={mine: {form: direct}}", part]
    with nullcontext() if said is None else pytest.raises(RecipeError, match=said):
        read = read_recipe("embedded", changes)
        require_arguments(read.recipe, build_stages(read, Path("/out")))


def test_a_choice_scans_with_the_selector_s_own_number_of_candidates() -> None:
    """The scan ran with 8, and `choose` refused what it had measured, after all of it."""
    part = "choices={best: {selector: mine, task: s2t_arith_dev, tau: [0.01, 0.2]}}"
    changes = ["labels={problems: {task: s2t_arith}}", "selectors={mine: {form: direct, top_k: 4}}", part]
    stages = {stage.name: stage for stage in build_stages(read_recipe("embedded", changes), Path("/out"))}
    assert " --top_k 4 --tau 0.01 0.2 " in " ".join(stages["best.scan"].command)


LOCAL = "methods.mine={{model: {model}, arguments: {{selector: {selector}, {more}}}}}"


@pytest.mark.parametrize(
    ("selector", "model", "more", "said"),
    [
        ("${mine}", "s2t_local", "tau: 0.05", r"mine: .*tau=0\.05 would have no effect"),
        ("${mine}", "s2t_local", "top_k: 16", r"mine: .*top_k=16 would have no effect"),
        ("${mine}", "pps_local", "proposer: tuned, trigger: always", r"mine: .*trigger=always would have"),
        ("${chosen}", "s2t_local", "top_k: 16", r"mine: .*top_k=16 would have no effect"),
        ("${mine}", "s2t_local", "", None),
        ("${mine}", "pps_local", "trigger: router, tau: 0.05", None),
        ("${looking}", "s2t_local", "trigger: always", None),
        ("${looking}", "s2t_local", "trigger: router, tau: 0.05", r"mine: trigger=router: .*skip_routers"),
        ("${looking}", "s2t_local", 'trigger: router, tau: 0.05, router: "${other}"', None),
    ],
)
def test_what_a_trained_selector_will_not_have_is_refused_before_it_is_trained(
    selector: str, model: str, more: str, said: str | None
) -> None:
    """The row ended at its own run, after labels and training, where the selector's form was read."""
    changes = [
        "labels={problems: {task: s2t_arith}}",
        "selectors.mine={form: direct}",
        "selectors.looking={form: lookahead, skip_routers: true}",
        "selectors.other={form: lookahead}",
        "choices={chosen: {selector: mine, task: s2t_arith_dev, tau: [0.01, 0.2]}}",
        LOCAL.format(model=model, selector=f'"{selector}"', more=more),
    ]
    read = read_recipe("embedded", changes)
    with nullcontext() if said is None else pytest.raises(RecipeError, match=said):
        require_arguments(read.recipe, build_stages(read, Path("/out")))


def test_the_form_of_a_selector_that_is_there_is_read_before_anything_runs() -> None:
    folder = embedded_path("embedded/selector")
    read = read_recipe("embedded", [LOCAL.format(model="s2t_local", selector=folder, more="tau: 0.05")])
    stages = build_stages(read, Path("/out"))
    with pytest.raises(RecipeError, match=r"tau=0\.05 would have no effect"):
        require_arguments(read.recipe, stages)


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_measure_what_their_methods_look_up(name: str) -> None:
    read = read_recipe(name)
    require_arguments(read.recipe, build_stages(read, Path("/out")))
