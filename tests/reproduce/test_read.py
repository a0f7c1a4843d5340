"""Recipes are checked before anything runs; a mistake is one line with place and nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lm_eval.tasks._yaml_loader import load_yaml

from s2t_eval.reproduce.names import TASK_FOLDERS, own_tasks
from s2t_eval.reproduce.read import (
    RecipeError,
    find,
    read_recipe,
    references,
    replaced_references,
    shipped,
)
from s2t_eval.reproduce.schema import document_ids
from s2t_eval.reproduce.task_groups import GROUPS

SMALL = """
title: small
models: {student: embedded/student, teacher: embedded/teacher}
methods:
  greedy: {model: greedy}
  s2t: {model: s2t, arguments: {teacher: "${teacher}", trigger: kl, threshold: 2.4}}
tasks: [{task: s2t_arith, limit: 2}]
"""


def write(folder: Path, text: str = SMALL) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def refusal(folder: Path, *changes: str, text: str = SMALL) -> str:
    """What is said of a recipe, without the file's name; always one line."""
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(folder, text), changes)
    said = str(caught.value)
    assert "\n" not in said
    return said.removeprefix(f"{folder / 'mine.yaml'}: ")


def test_shipped_recipes_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", "data")
    expected = [
        "embedded",
        "embedded-rlkd",
        "embedded-search",
        "paper",
        "qwen-gsm8k",
        "qwen-gsm8k-compared",
        "qwen-gsm8k-gpu",
        "qwen-gsm8k-search",
    ]
    assert shipped() == expected
    for name in shipped():
        recipe = read_recipe(name).recipe
        assert recipe.methods["greedy"].model == "greedy", name
        assert recipe.methods["teacher"].arguments == {"pretrained": "${teacher}"}, name


def test_the_paper_recipe_is_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", "data")
    recipe = read_recipe("paper").recipe
    assert recipe.models.student == "Qwen/Qwen2.5-0.5B-Instruct" and recipe.seeds == (0, 1, 2)
    assert recipe.models.teacher == "Qwen/Qwen2.5-32B-Instruct"
    assert [task.task.removeprefix("s2t_") for task in recipe.tasks] == [
        *("gsm8k", "math500", "olympiadbench", "aime25", "humaneval", "mmlu_pro")
    ]
    assert recipe.labels is not None and recipe.labels.problems is not None
    assert recipe.labels.problems.data == "data/math_train/train.jsonl"


def test_the_title_of_the_papers_recipe_holds_for_both_students(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command of its own head, the report of the 1.5B student was headed 0.5B."""
    monkeypatch.setenv("S2T_DATA", "data")
    assert "0.5B" not in read_recipe("paper", ["models.student=Qwen/Qwen2.5-1.5B-Instruct"]).recipe.title


def test_the_second_round_in_the_comment_is_one() -> None:
    lines = find("qwen-gsm8k").read_text().splitlines()
    comment = [line.removeprefix("# ") for line in lines[lines.index("# rounds:") :][:6]]
    rounds, second = yaml.safe_load("\n".join(comment[:2])), yaml.safe_load("\n".join(comment[3:]))
    changes = [f"rounds={rounds['rounds']}", f"selectors.second={second['second']}"]
    recipe = read_recipe("qwen-gsm8k", [*changes, "choices.chosen.selector=second"]).recipe
    assert recipe.selectors["second"].labels == "own_texts" and recipe.rounds["own_texts"].tau == 0.05


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("models.studnet=x", "models: unknown key 'studnet'; did you mean 'student'?"),
        ("model={student: x}", "unknown key 'model'; did you mean 'models'?"),
        ("methods.greedy.argumnets={}", "methods.greedy: unknown key 'argumnets'; did you mean 'arguments'?"),
        ("tasks.0.limt=3", "tasks.0: unknown key 'limt'; did you mean 'limit'?"),
        ("labels={problems: {taks: a}}", "labels.problems: unknown key 'taks'; did you mean 'task'?"),
        ("selectors={mine: {rnak: 8}}", "selectors.mine: unknown key 'rnak'; did you mean 'rank'?"),
        ("methods.greedy.model=gredy", "expected one of"),
        ("limits.batch_size=0", "limits.batch_size: expected at least 1, got 0"),
        ("limits.batch_size=many", 'limits.batch_size: expected a whole number, got "many"'),
        ("tasks.0.methods=[gredy]", "tasks.0.methods: 'gredy' is none; there are greedy, s2t"),
        ("tasks.0.documents=9-3", "tasks.0: expected at most one of limit, documents and limit_of_each"),
        ("seeds=[1, 1]", "seeds: expected different ones, got [1, 1]"),
        ("selectors={mine: {form: direct}}", "labels: mine is trained on them; name some"),
        # These four ended a reproduction at its first evaluation, or at the choice behind a whole scan.
        ("tasks.0.task=s2t_gsm8kk", "tasks.0.task: there is no task 's2t_gsm8kk'; did you mean 's2t_gsm8k'?"),
        (
            "labels={problems: {task: s2t_gsm8k_def}}",
            "labels.problems.task: there is no task 's2t_gsm8k_def'",
        ),
        (
            "choices={one: {selector: mine, task: s2t_arit_dev, tau: [0.1, 1]}}",
            "choices.one.task: there is no task 's2t_arit_dev'; did you mean 's2t_arith_dev'?",
        ),
        (
            "choices={one: {selector: mine, task: s2t_gsm8k, tau: [0.1, 1]}}",
            "choices.one.task: settings are chosen on development problems alone",
        ),
        # These five were found when their stage began, hours later.
        ("tah={a: {problems: {task: a}, depths: {max_depth: 0}}}", "tah.a.depths.max_depth: expected"),
        ("tah={a: {problems: {task: a}, decider: {layers: [1, 1]}}}", "layers: expected each layer once"),
        ("selectors={mine: {beta: 0, reverse: true}}", "selectors.mine.reverse: with beta 0 there is no"),
        ("distilled={mine: {method: kd, until: [x]}}", "until: the teacher generates texts for seqkd only"),
        ("labels={problems: {task: a}, selector_tau: 0.1}", "labels.selector_tau: there is no selector that"),
        ("calibration={problems: {task: a}, max_step: 9}", "calibration.max_step: a calibration without"),
        ("calibration={problems: {task: a}, step_score: [digits]}", "calibration.step_score.0: expected one"),
        ("models.teacher_args={dtype: float16}", "teacher_args.dtype: models.teacher_dtype is the place for"),
        ("models.teacher_args={revision: x}", "teacher_args.revision: models.teacher_revision is the place"),
        ("models={student: x, teacher_args: {peft: y}}", "teacher_args: there is no teacher that they could"),
        ("models.student=${NO_SUCH_VARIABLE}", "models.student: ${NO_SUCH_VARIABLE} is neither"),
        ("methods.s2t.arguments.teacher=${techer}", "did you mean 'teacher'?"),
        (
            "choices={one: {selector: none, task: s2t_arith_dev, tau: [0.1, 1]}}",
            "choices.one.selector: 'none'",
        ),
        (
            "tasks=[{task: a, methods: [greedy], documents: 0-9}, {task: a, methods: [s2t], documents: 5-9}]",
            "tasks.1.task: a is tasks.0 already, and a column has one choice of documents; join the two",
        ),
        (
            "tasks=[{task: s2t_paper, methods: [greedy]}, {task: s2t_gsm8k, methods: [s2t]}]",
            "tasks.1.task: expected each task once, got s2t_gsm8k in tasks.0 (s2t_paper) and in tasks.1 "
            "(s2t_gsm8k); leave one of the two out, or name the tasks instead of the group",
        ),
        # The evaluation of our tasks went on without the examples with which everything else was refused.
        (
            "prompt.num_fewshot=5",
            "prompt.num_fewshot 5: s2t_arith is defined to have no examples, and lm_eval",
        ),
        ("tasks.7.limit=3", "--set: tasks.7: expected a number from 0 to 0, got '7'"),
        ("title.more=3", "--set: title is a single value, 'small'; nothing can be put into it"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, change: str, said: str) -> None:
    assert said in refusal(tmp_path, change)


def test_examples_are_refused_for_all_tasks_of_ours_and_for_no_others(tmp_path: Path) -> None:
    """lm_eval evaluates ours without examples whatever it is given, and only logs that it does so."""
    five, gsm8k = "prompt.num_fewshot=5", "tasks=[{task: gsm8k}]"
    group = "tasks=[{task: s2t_math}]"
    assert "5: s2t_math is defined to have no examples" in refusal(tmp_path, five, group)
    for change in (
        "calibration={problems: {task: s2t_gsm8k_dev}}",
        "labels={problems: {task: s2t_gsm8k_dev}}",
        "tah={a: {problems: {task: s2t_gsm8k_dev}}}",
        "routers={a: {problems: {task: s2t_gsm8k_dev}}}",
    ):
        said = refusal(tmp_path, five, gsm8k, change)
        assert said.startswith("prompt.num_fewshot 5: s2t_gsm8k_dev is defined to have no examples")
    scan = "choices={b: {selector: a, task: s2t_arith_dev, tau: [0.1, 1]}}"
    changes = ("labels={folder: here}", "selectors={a: {form: direct}}", scan)
    assert "s2t_arith_dev is defined to have no examples" in refusal(tmp_path, five, gsm8k, *changes)
    recipe = read_recipe(write(tmp_path), [five, gsm8k, "calibration={problems: {data: mine.jsonl}}"]).recipe
    assert recipe.prompt.num_fewshot == 5
    assert read_recipe(write(tmp_path), ["prompt.num_fewshot=0"]).recipe.prompt.num_fewshot == 0


def test_our_tasks_are_defined_to_have_no_examples() -> None:
    """What recipes refuse by a task's name is in the tasks' own files."""
    files = [path for folder in TASK_FOLDERS for path in folder.rglob("s2t_*.yaml")]
    configs = [load_yaml(path, resolve_func=False) for path in files]
    tasks = {config["task"]: config["num_fewshot"] for config in configs if "group" not in config}
    assert tasks == dict.fromkeys(set(own_tasks()) - GROUPS.keys(), 0)


ROUNDS = """
labels: {problems: {task: s2t_arith, limit: 8}, steps: all}
rounds: {own: {selector: first, trigger: kl, tau: 0.05}}
selectors:
  first: {form: direct}
  second: {labels: own, start: first, form: direct}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("rounds.own.selector=second", "selectors.second.labels: expected a round of a selector above it"),
        (
            "selectors.second.labels=owm",
            "selectors.second.labels: 'owm' is none of the rounds",
        ),
        ("selectors.second.labels=null", "rounds.own: no selector is trained on it"),
        ("labels={folder: there}", "rounds: they label the problems of `labels` again"),
        ("rounds.own.tau=2", "tau: expected"),
        ("rounds.own.limit=9", "rounds.own.limit: expected at most the labels' 8 problems, got 9"),
        ("selectors={own: {form: direct}}", "selectors.own: the name is taken by rounds"),
    ],
)
def test_a_round_follows_the_selector_that_writes_its_texts(tmp_path: Path, change: str, said: str) -> None:
    assert read_recipe(write(tmp_path, SMALL + ROUNDS)).recipe.selectors["second"].labels == "own"
    assert said in refusal(tmp_path, change, text=SMALL + ROUNDS)


def test_a_round_of_some_problems_needs_a_selector_whose_split_it_keeps(tmp_path: Path) -> None:
    """Split anew, the first half of the problems holds some out that the texts' writer was trained on."""
    changes = ["rounds.own.limit=4", "selectors.second.start=null"]
    said = "selectors.second.start: rounds.own has the first 4 problems alone"
    with pytest.raises(RecipeError, match=said):
        read_recipe(write(tmp_path, SMALL + ROUNDS), changes)
    assert read_recipe(write(tmp_path, SMALL + ROUNDS), changes[:1]).recipe.rounds["own"].limit == 4


def test_yaml_that_would_lose_something_is_refused(tmp_path: Path) -> None:
    """YAML's own reader takes the last of two equal keys, `lr: 1e-4` for a text and `no` for false."""
    assert "'title' is there twice" in refusal(tmp_path, text=SMALL + "title: again\n")
    labels = "labels={folder: labels}"
    mine_says = "selectors={mine: {lr: 1e-4, lr_warmup_fraction: .5, precision: no}}"
    read = read_recipe(write(tmp_path), [labels, mine_says])
    mine = read.recipe.selectors["mine"]
    assert (mine.lr, mine.lr_warmup_fraction, mine.precision) == (1e-4, 0.5, "no")
    assert "no YAML (line 3" in refusal(tmp_path, text="title: x\nmodels: {a\n")
    assert "expected keys and values, got list" in refusal(tmp_path, text="[1]")


def test_a_recipe_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"embeded: no shipped recipe .* did you mean 'embedded'\?$"):
        read_recipe("embeded")
    with pytest.raises(RecipeError, match="there is no such recipe; shipped ones are embedded, "):
        read_recipe("recipes/nonesuch.yaml")


def test_set_changes_one_place_and_makes_missing_sections(tmp_path: Path) -> None:
    changes = ["models.student=other", "limits.documents=2", "tasks.0.limit=null", "labels={folder: here}"]
    read = read_recipe(write(tmp_path), changes)
    assert read.recipe.models.student == "other" and read.recipe.models.teacher == "embedded/teacher"
    assert read.recipe.limits.documents == 2 and read.recipe.tasks[0].limit is None
    assert read.recipe.labels is not None and read.recipe.labels.folder == "here"
    assert "expected KEY.KEY=VALUE" in refusal(tmp_path, "models.student")


ALIASES = """
title: aliases
models: {student: embedded/student, teacher: embedded/teacher}
labels:
  problems: &problems {task: s2t_arith, limit: 8}
calibration:
  problems: {<<: *problems, skip: 4}
tah: {looped: {problems: *problems}}
methods: {greedy: {model: greedy}}
tasks: &tasks [{task: s2t_arith}]
"""


def test_set_changes_one_place_beside_its_aliases(tmp_path: Path) -> None:
    """An alias of YAML is the object of its anchor: `labels.problems.limit` changed the one of `tah` too."""
    read = read_recipe(write(tmp_path, ALIASES), ["labels.problems.limit=2", "tah.looped.problems.skip=1"])
    labels, tah, calibration = read.recipe.labels, read.recipe.tah["looped"], read.recipe.calibration
    assert labels is not None and labels.problems is not None and calibration is not None
    assert (labels.problems.limit, labels.problems.skip) == (2, None)
    assert (tah.problems.limit, tah.problems.skip) == (8, 1)
    assert (calibration.problems.limit, calibration.problems.skip) == (8, 4)
    given = "tah={one: {problems: &p {task: s2t_arith, limit: 3}}, two: {problems: *p}}"
    read = read_recipe(write(tmp_path, ALIASES), [given, "tah.one.problems.limit=5"])
    assert [part.problems.limit for part in read.recipe.tah.values()] == [5, 3]


def test_the_problems_of_the_paper_are_changed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", "data")
    recipe = read_recipe("paper", ["labels.problems.limit=7000"]).recipe
    assert recipe.labels is not None and recipe.labels.problems is not None
    assert (recipe.labels.problems.limit, recipe.tah["looped"].problems.limit) == (7000, 2000)


def test_an_anchor_around_its_own_alias_is_refused(tmp_path: Path) -> None:
    assert "an anchor contains its own alias" in refusal(tmp_path, text="title: &a [*a]\n")


def test_references_stay_where_they_name_artifacts_and_become_variables_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS", "/models")
    read = read_recipe(write(tmp_path), ["models.student=${MODELS}/small"])
    assert read.recipe.models.student == "/models/small"
    arguments = read.recipe.methods["s2t"].arguments
    assert arguments["teacher"] == "${teacher}" and references(arguments) == ["teacher"]
    placed = replaced_references(arguments, lambda name: f"<{name}>")
    assert placed == {"teacher": "<teacher>", "trigger": "kl", "threshold": 2.4}


def test_document_ids() -> None:
    assert list(document_ids("3, 5-7,0,6")) == [0, 3, 5, 6, 7]  # as lm_eval takes them
    for text in ("", "a", "3-1", "1,,2", "-1"):
        with pytest.raises(ValueError, match="expected numbers and ranges"):
            list(document_ids(text))
