"""Our names in lm_eval: through the start-up hook, without it, and beside other plug-ins.

What must hold at interpreter start runs in interpreters of its own; the rest runs in this one,
which has the hook as well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import lm_eval.api.registry
import lm_eval.models
import lm_eval.tasks.manager
import pytest
from lm_eval.api.registry import Registry, get_model
from lm_eval.tasks import TaskManager

import s2t_eval
from s2t_eval.model_wrappers import registration
from s2t_eval.model_wrappers import startup as _startup
from tests.environment import as_installed
from tests.harness_helpers import only_built_in_task

PACKAGE = Path(s2t_eval.__file__).resolve().parent
MODELS_AS_JSON = """
import json, sys
from lm_eval.api.registry import model_registry
print(json.dumps({name: str(target) for name, target in model_registry.items()}))
"""


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, away from the repository, and expect it to succeed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=as_installed(**environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


# ---------------------------------------------------------------- models


def test_hook_adds_our_names_and_keeps_every_built_in(tmp_path: Path) -> None:
    models = json.loads(run("import lm_eval.models" + MODELS_AS_JSON, tmp_path).stdout)
    assert models == {**lm_eval.models.MODEL_MAPPING, **registration.BACKENDS}


def test_hook_imports_no_backend_before_its_use(tmp_path: Path) -> None:
    code = "import lm_eval.models, sys; print('torch' in sys.modules, [*sys.modules])"
    printed = run(code, tmp_path).stdout
    assert printed.startswith("False")
    assert "s2t_eval.model_wrappers.registration" in printed
    assert "s2t_eval.model_wrappers.base" not in printed


def test_get_model_alone_finds_our_names_beside_the_built_in_ones(tmp_path: Path) -> None:
    """`get_model` imports the built-in models only while its registry is empty."""
    code = (
        "from lm_eval.api.registry import get_model\n"
        "try: get_model('nonesuch')\n"
        "except ValueError as error: print(error)"
    )
    printed = run(code, tmp_path).stdout
    assert {"hf", *registration.BACKENDS} <= set(re.findall(r"[\w-]+", printed))


@pytest.mark.parametrize(("name", "target"), registration.BACKENDS.items())
def test_get_model_returns_the_class(name: str, target: str) -> None:
    backend = get_model(name)
    assert f"{backend.__module__}:{backend.__name__}" == target
    assert issubclass(backend, lm_eval.api.model.LM)


def test_alias_is_the_same_class() -> None:
    assert get_model("maj_at_k") is get_model("maj8")


def test_hook_switched_off(tmp_path: Path) -> None:
    code = "import lm_eval.models" + MODELS_AS_JSON
    models = json.loads(run(code, tmp_path, S2T_EVAL_NO_HOOK="1").stdout)
    assert models == lm_eval.models.MODEL_MAPPING


@pytest.mark.parametrize("value", ["", "0"])
def test_switch_that_says_no_leaves_the_hook_on(value: str, tmp_path: Path) -> None:
    code = "import lm_eval.models" + MODELS_AS_JSON
    assert "s2t" in json.loads(run(code, tmp_path, S2T_EVAL_NO_HOOK=value).stdout)


def test_register_does_the_same_without_the_hook_and_can_be_repeated(tmp_path: Path) -> None:
    code = (
        "from s2t_eval.model_wrappers.registration import register; register(); register()" + MODELS_AS_JSON
    )
    code += "from lm_eval.tasks import TaskManager; assert TaskManager.__init__.scans_s2t_eval"
    done = run(code, tmp_path, S2T_EVAL_NO_HOOK="1")
    models = json.loads(done.stdout)
    assert models == {**lm_eval.models.MODEL_MAPPING, **registration.BACKENDS}
    assert done.stderr == ""


def test_entry_points_for_later_releases_name_the_same_classes() -> None:
    declared = {
        point.name: point.value
        for point in distribution("s2t-eval").entry_points
        if point.group == "lm_eval.models"
    }
    assert declared == registration.BACKENDS


def test_names_that_entry_points_registered_first_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A later lm_eval registers our entry points itself, before or after the hook."""
    models: Registry[type] = Registry("model")
    point = EntryPoint("s2t", registration.BACKENDS["s2t"], "lm_eval.models")
    models.register("s2t", target=point)
    monkeypatch.setattr(lm_eval.api.registry, "model_registry", models)
    registration.add_models()
    assert dict(models.items()) == {**registration.BACKENDS, "s2t": point}
    assert capsys.readouterr().err == ""


def test_name_taken_by_another_package_is_kept_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models: Registry[type] = Registry("model")
    models.register("greedy", target="other:Greedy")
    monkeypatch.setattr(lm_eval.api.registry, "model_registry", models)
    registration.add_models()
    assert dict(models.items()) == {**registration.BACKENDS, "greedy": "other:Greedy"}
    assert capsys.readouterr().err.splitlines() == [
        "s2t_eval: the model name 'greedy' already means other:Greedy; "
        "s2t_eval.model_wrappers.greedy:Greedy is not registered"
    ]


# ---------------------------------------------------------------- the hook


def test_python_start_imports_nothing_of_ours(tmp_path: Path) -> None:
    code = "import sys; print([m for m in sys.modules if m.startswith('s2t_eval')])"
    assert run(code, tmp_path).stdout.strip() == "[]"


def test_hook_line_runs_a_few_instructions_and_imports_nothing(tmp_path: Path) -> None:
    """Counted, not timed: a busy machine makes no instruction more. benchmarks/startup.py times starts."""
    line = (PACKAGE / "startup.pth").read_text().splitlines()[-1]
    code = (
        "import os, sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != 'S2tEvalHook']\n"
        "before, calls, lines = set(sys.modules), [], []\n"
        "def trace(frame, event, argument):\n"
        "    calls.append(frame.f_code.co_name) if event == 'call' else lines.append(event)\n"
        "    return trace\n"
        "sys.settrace(trace)\n"
        f"exec({line!r})\n"
        "sys.settrace(None)\n"
        "print(len(calls), len(lines), sorted(set(sys.modules) - before))\n"
        "print([type(f).__name__ for f in sys.meta_path].count('S2tEvalHook'))"
    )
    counted, installed = run(code, tmp_path).stdout.splitlines()
    num_calls, num_lines, imported = counted.split(" ", 2)
    assert imported == "[]"
    assert 0 < int(num_calls) < 50 and 0 < int(num_lines) < 200
    assert installed == "1"


def test_hook_is_installed_once(tmp_path: Path) -> None:
    """Python reads the .pth files of a virtual environment twice; that called each action twice."""
    code = "import sys; print([type(finder).__name__ for finder in sys.meta_path])"
    assert run(code, tmp_path).stdout.count("S2tEvalHook") == 1


def test_hook_line_is_what_its_comment_says() -> None:
    *comments, line = (PACKAGE / "startup.pth").read_text().splitlines()
    shown = [comment.removeprefix("# ").removeprefix("#") for comment in comments]
    code = "\n".join(shown[shown.index("class S2tEvalHook:") :])
    assert line.endswith(f"exec({json.dumps(code)})")


def test_hook_names_the_modules_that_have_actions() -> None:
    line = (PACKAGE / "startup.pth").read_text().splitlines()[-1]
    assert f"if name in {tuple(_startup.ACTIONS)}:" in line


@pytest.mark.parametrize("fault", ["raise ImportError('gone')", "raise RuntimeError('bad')", "def"])
def test_broken_package_breaks_neither_python_nor_lm_eval(fault: str, tmp_path: Path) -> None:
    (tmp_path / "s2t_eval").mkdir()
    (tmp_path / "s2t_eval" / "__init__.py").write_text(fault)
    assert run("pass", tmp_path, PYTHONPATH=str(tmp_path)).stderr == ""
    code = "import lm_eval.models" + MODELS_AS_JSON
    done = run(code, tmp_path, PYTHONPATH=str(tmp_path))
    assert json.loads(done.stdout) == lm_eval.models.MODEL_MAPPING
    [warning] = done.stderr.splitlines()
    assert warning.startswith("s2t_eval: not added to lm_eval:")


def test_problem_while_registering_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise TypeError("frozen,\nhelpless")

    monkeypatch.setitem(_startup.ACTIONS, "lm_eval.models", fail)
    _startup._act("lm_eval.models")
    assert capsys.readouterr().err == ("s2t_eval: not added to lm_eval.models: TypeError: frozen, helpless\n")


def test_import_system_works_as_without_the_hook(tmp_path: Path) -> None:
    """find_spec, the loader's type and source, and reload, which adds nothing twice."""
    code = """
import importlib, importlib.util
from importlib.machinery import SourceFileLoader
for name in ("lm_eval.models", "lm_eval.tasks.manager"):
    spec = importlib.util.find_spec(name)
    assert type(spec.loader) is SourceFileLoader
    assert spec.loader.get_source(name) == open(spec.origin).read()
    module = importlib.import_module(name)
    assert module.__spec__.origin == spec.origin
    assert importlib.reload(module) is module
from lm_eval.api.registry import model_registry
assert "s2t" in model_registry and "hf" in model_registry
from lm_eval.tasks.manager import TaskManager
assert TaskManager.__init__.scans_s2t_eval
assert not hasattr(TaskManager.__init__.__wrapped__, "scans_s2t_eval")
assert importlib.util.find_spec("lm_eval.nonesuch") is None
"""
    assert run(code, tmp_path).stderr == ""


# ---------------------------------------------------------------- tasks


@pytest.fixture
def built_in_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one task in place of lm_eval's 14,000, which take seconds to scan."""
    folder = tmp_path / "lm_eval_tasks"
    folder.mkdir()
    (folder / "stock.yaml").write_text("task: stock\n")
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(folder / "manager.py"))
    return folder


@pytest.fixture
def user_tasks(tmp_path: Path) -> Path:
    """A user's folder with a task of their own and one that has a name of ours."""
    folder = tmp_path / "user_tasks"
    folder.mkdir()
    (folder / "mine.yaml").write_text("task: mine\n")
    (folder / "arith.yaml").write_text("task: s2t_arith\n")
    return folder


@pytest.mark.parametrize(
    ("command", "is_own"),
    [
        ("lm_eval --model greedy --tasks s2t_gsm8k", True),
        ("bin/lm-eval run --tasks=s2t_gsm8k,s2t_arith --limit 8", True),
        ("packages/lm_eval/__main__.py -t s2t_gsm8k s2t_arith --limit 8", True),
        ("lm_eval --tasks s2t_gsm8k,gsm8k", False),
        ("lm_eval --tasks s2t_gsm8k gsm8k --limit 8", False),
        ("lm_eval --tasks s2t_*", False),
        ("lm_eval --tasks folder", False),
        ("lm_eval --task s2t_gsm8k", True),  # an abbreviation
        ("lm_eval --trust_remote_code s2t_gsm8k", False),
        ("lm_eval --tasks", False),
        ("lm_eval --tasks gsm8k --tasks s2t_arith", False),  # ended with "Tasks not found: gsm8k"
        ("lm_eval -tgsm8k --tasks=s2t_arith", False),
        ("lm_eval --task=gsm8k -t s2t_arith", False),
        ("lm_eval --tasks s2t_gsm8k --limit 8 -t=s2t_arith", True),
        ("lm_eval ls tasks", False),
        ("lm_eval", False),
        ("mine.py --tasks s2t_gsm8k", False),
        ("lm_eval/mine.py --tasks s2t_gsm8k", False),  # a user's script, which may read other tasks too
        ("pytest", False),
    ],
)
def test_lm_eval_reads_its_own_tasks_where_one_is_named(command: str, is_own: bool) -> None:
    assert registration.names_own_tasks_alone(command.split()) == is_own


@pytest.mark.parametrize("program", ["lm_eval", "mine.py"])
@pytest.mark.parametrize("given", [None, "more"])
def test_a_run_of_our_tasks_starts_without_reading_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, given: str | None
) -> None:
    """lm_eval's 14,000 take seconds; a user's own folder may refer to them."""
    monkeypatch.setattr(sys, "argv", [program, "--tasks", "s2t_arith"])
    stock = tmp_path / "stock"
    (tmp_path / "more").mkdir()
    with only_built_in_task(stock):
        manager = TaskManager(include_path=given and str(tmp_path / given))
    assert "s2t_arith" in manager.all_tasks
    assert ("stock" in manager.all_tasks) == (program != "lm_eval" or given is not None)


def test_training_problems_of_our_tasks_need_no_other_task(tmp_path: Path) -> None:
    with only_built_in_task(tmp_path / "stock"):
        assert "stock" not in registration.task_manager_of(["s2t_gsm8k", "s2t_arith"]).all_tasks
        assert "stock" in registration.task_manager_of(["s2t_gsm8k", "stock"]).all_tasks


def path_of(manager: TaskManager, name: str) -> Path:
    path = manager.task_index[name].yaml_path
    assert path is not None
    return path


@pytest.mark.usefixtures("built_in_tasks")
def test_our_tasks_are_found_by_name() -> None:
    manager = TaskManager()
    assert {"stock", "s2t_arith"} <= set(manager.all_tasks)
    assert path_of(manager, "s2t_arith").is_relative_to(registration.TASK_FOLDER)


@pytest.mark.usefixtures("built_in_tasks")
@pytest.mark.parametrize("as_list", [False, True])
def test_include_path_comes_after_ours_and_wins(as_list: bool, user_tasks: Path) -> None:
    given = [str(user_tasks)] if as_list else str(user_tasks)
    manager = TaskManager(None, given)
    assert {"stock", "mine", "s2t_arith"} <= set(manager.all_tasks)
    assert path_of(manager, "s2t_arith").is_relative_to(user_tasks)
    assert manager.include_path == given


@pytest.mark.usefixtures("built_in_tasks")
def test_without_the_defaults_ours_are_not_scanned_either(user_tasks: Path) -> None:
    manager = TaskManager(include_path=user_tasks, include_defaults=False)
    assert manager.all_tasks == ["mine", "s2t_arith"]


@pytest.mark.usefixtures("built_in_tasks")
def test_naming_our_folder_does_not_scan_it_twice(caplog: pytest.LogCaptureFixture) -> None:
    manager = TaskManager(include_path=registration.TASK_FOLDER)
    assert {"stock", "s2t_arith"} <= set(manager.all_tasks)
    assert "overrides" not in caplog.text


@pytest.mark.slow
def test_stock_command_lists_our_tasks_and_none_hides_a_built_in(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['lm_eval', 'ls', 'tasks']\nimport lm_eval.__main__ as m\n"
    done = run(code + "m.cli_evaluate()", tmp_path)
    assert "|s2t_arith " in done.stdout
    assert "|gsm8k " in done.stdout
    assert "overrides existing task" not in done.stderr
