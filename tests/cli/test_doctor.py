"""`s2t-eval doctor`: what it says of this machine, and of machines on which something is broken."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api import registry

from s2t_eval.cli import doctor, main
from s2t_eval.cli.machine import CHECKS, EXTRAS, check_data, check_hook, check_sandbox, check_version
from s2t_eval.evaluation.benchmark_data import GSM8K
from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.registration import register


def examined(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, dict[str, Any]]:
    """Name -> check, as JSON; the command ends with this exit code."""
    capsys.readouterr()
    try:
        main(["doctor", "--json"])
        ended = 0
    except SystemExit as error:
        ended = int(str(error.code))
    assert ended == code
    found = json.loads(capsys.readouterr().out)
    assert found["works"] is (code == 0)
    return {check["name"]: check for check in found["checks"]}


@pytest.fixture(autouse=True)
def _usual_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    for name in ("S2T_DATA", "S2T_SANDBOX"):
        monkeypatch.delenv(name, raising=False)


def test_every_extra_is_looked_for() -> None:
    """`quantization`, which load_in_4bit needs, was not among them."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    assert sorted(EXTRAS) == sorted(set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE)) - {"dev"})


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    checks = examined(capsys)
    assert set(checks) == {"s2t-eval", "python", "torch", "transformers", "lm-eval", "peft", *CHECKS}
    assert checks["python"]["version"] == platform.python_version()
    for name in ("torch", "transformers", "lm-eval", "peft"):
        assert checks[name]["version"].split("+")[0] == version(name).split("+")[0]
    assert checks["device"]["devices"][-1]["device"] == "cpu"
    assert len(checks["device"]["devices"]) == 1 + torch.cuda.device_count()
    assert checks["grader"]["status"] == "ok"
    measured = checks["dtype"]["milliseconds"]
    assert checks["dtype"]["faster"] == min(measured, key=measured.get)
    assert all(value > 0 for value in measured.values())


def test_the_lines_for_people_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    assert f"ok      torch         {torch.__version__}" in lines
    assert [line.split()[1] for line in lines][-len(CHECKS) :] == list(CHECKS)


def test_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", str(tmp_path))
    assert check_data().status.value == "note"
    (tmp_path / GSM8K.folder).mkdir(parents=True)
    found = check_data()
    assert (found.status.value, found.values["present"]) == ("ok", [GSM8K.folder])
    monkeypatch.setenv("S2T_DATA", str(tmp_path / "gone"))
    found = check_data()
    assert found.status.value == "failed"
    assert "gone: expected a folder of benchmark data" in found.message


def test_a_missing_sandbox_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_SANDBOX", "none")
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    found = check_sandbox()
    assert found.status.value == "note"
    assert found.message.startswith("HumanEval cannot be scored: ")
    assert "HF_ALLOW_CODE_EVAL=1" in found.message
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    assert "with your rights" in check_sandbox().message
    monkeypatch.setenv("S2T_SANDBOX", "docker")
    assert "expected one of auto, bubblewrap, none" in check_sandbox().message


def test_a_broken_grader_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latex2sympy2_extended.py").write_text("raise ImportError('no grammar')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = examined(capsys, code=1)["grader"]
    assert found["status"] == "failed"
    assert "no grammar" in found["message"]
    assert "pip install 'math-verify" in found["message"]


def test_a_package_that_is_not_there_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = check_version("s2t_eval_no_such_module", "no-such-package")
    assert missing.status.value == "failed"
    assert missing.message.endswith("pip install no-such-package")
    (tmp_path / "s2t_eval_broken.py").write_text("raise OSError('libcudart.so.12: cannot open')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = check_version("s2t_eval_broken", "broken")
    assert "OSError: libcudart.so.12: cannot open" in broken.message


def test_the_hook_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class S2tEvalHook:
        def find_spec(self, *_: object) -> None:
            return None

    others = [finder for finder in sys.meta_path if type(finder).__name__ != "S2tEvalHook"]
    monkeypatch.setattr(sys, "meta_path", [S2tEvalHook(), *others])
    assert check_hook().status.value == "ok"
    monkeypatch.setattr(sys, "meta_path", others)
    monkeypatch.setenv("S2T_EVAL_NO_HOOK", "1")
    found = check_hook()
    assert (found.status.value, found.values["active"]) == ("note", False)
    monkeypatch.setattr(registry, "model_registry", {})  # as where the hook has registered nothing
    assert set(check_hook().values["unknown_models"]) == set(BACKENDS)
    assert found.message.startswith("switched off by S2T_EVAL_NO_HOOK: use `s2t-eval run")


def test_the_example_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(shlex.split(doctor.Doctor.EXAMPLE)[1:])
    assert json.loads(capsys.readouterr().out)["works"] is True
    assert os.environ.get("S2T_DATA") is None
