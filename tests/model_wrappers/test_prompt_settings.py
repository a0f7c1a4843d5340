"""Calibrations, selectors and trained students run behind the prompts they were made with, or on request."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.embedded import embedded_path
from s2t_eval.methods.distilled import DistilledError
from s2t_eval.methods.selector_info import SelectorError
from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.harness_tasks import prompt_settings
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.selection.calibration import Calibration, CalibrationError
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    arith_docs,
    counts,
    evaluate,
    generation,
    inline_task,
    task_manager,
)

COMMITTED = Path(__file__).parents[2] / "results" / "baselines" / "embedded" / "calibration.json"
ZERO_SHOT = inline_task("zero_shot", arith_docs(3))
ONE_SHOT = inline_task("one_shot", arith_docs(3), num_fewshot=1, fewshot_split="test")
CHAT = {"apply_chat_template": True}
SYSTEM = {"system_instruction": "Think."}


def calibrated(**more: Any) -> dict[str, Any]:
    return {"teacher": TEACHER, "tau": 0.05, "calibration": str(COMMITTED), **more}


def run(model: str, model_args: dict[str, Any], task: dict[str, Any], **options: Any) -> dict[str, Any]:
    return evaluate(model, model_args, [task], limit=1, **options)


@pytest.mark.parametrize(
    ("task", "options", "difference"),
    [
        (ONE_SHOT, {}, "num_fewshot 0, now 1"),
        (ZERO_SHOT, CHAT, "apply_chat_template False, now True"),
        (ZERO_SHOT, SYSTEM, "system_instruction None, now 'Think.'"),
        (ONE_SHOT, CHAT | SYSTEM, "num_fewshot 0, now 1; apply_chat_template False, now True; system_instr"),
    ],
)
def test_a_calibration_of_other_prompts_is_refused(
    task: dict[str, Any], options: dict[str, Any], difference: str
) -> None:
    """README's first examples calibrated without examples and evaluated behind five."""
    message = rf"^calibration: it was made with another prompt \({difference}.*\); .*other_prompt=true$"
    with pytest.raises(CalibrationError, match=message):
        run("s2t", calibrated(), task, **options)
    assert counts(run("s2t", calibrated(other_prompt=True), task, **options))["tokens"] > 0


def test_the_prompts_of_the_calibration_are_accepted() -> None:
    assert counts(run("s2t", calibrated(), ZERO_SHOT))["teacher_tokens"] > 0
    arguments = f"pretrained={STUDENT},teacher={TEACHER},tau=0.05,calibration={COMMITTED},other_prompt=true"
    assert counts(evaluate("s2t", arguments, [ONE_SHOT], limit=1))["texts"] == 1


@pytest.mark.parametrize("model", ["s2t_local", "pps_local"])
def test_a_selector_of_other_prompts_is_refused(model: str) -> None:
    message = r"^selector: it was made with another prompt \(num_fewshot 0, now 1\); .*collect labels"
    selector = {"selector": "embedded/selector"}
    with pytest.raises(SelectorError, match=message):
        run(model, selector, ONE_SHOT)
    assert counts(run(model, {**selector, "other_prompt": True}, ONE_SHOT))["tokens"] > 0


def test_a_selector_made_with_these_prompts_is_accepted(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedded_path("embedded/selector"), tmp_path / "selector"))
    content = json.loads((folder / "selector.json").read_text())
    content["labels"]["prompt"] |= {"num_fewshot": 1, **CHAT, **SYSTEM}
    (folder / "selector.json").write_text(json.dumps(content))
    assert counts(run("pps_local", {"selector": str(folder)}, ONE_SHOT, **CHAT, **SYSTEM))["tokens"] > 0
    with pytest.raises(SelectorError, match=r"num_fewshot 1, now 0"):
        run("pps_local", {"selector": str(folder)}, ZERO_SHOT)


def with_prompt(name: str, settings: str, prompt: dict[str, Any], folder: Path) -> str:
    """A copy of an embedded artifact whose labels were made with another prompt; empty: none is recorded."""
    shutil.copytree(embedded_path(name), folder)
    content = json.loads((folder / settings).read_text())
    content["labels"]["prompt"] = prompt
    (folder / settings).write_text(json.dumps(content))
    return str(folder)


MADE_PLAINLY = {"num_fewshot": 0, "apply_chat_template": False, "system_instruction": None}


@pytest.mark.parametrize(
    ("model", "argument", "settings", "error"),
    [("distil", "peft", "distil.json", DistilledError), ("tah", "tah", "tah.json", TahError)],
)
def test_a_trained_student_of_other_prompts_is_refused(
    model: str, argument: str, settings: str, error: type[ValueError], tmp_path: Path
) -> None:
    """A student that was distilled on prompts without a chat template was compared behind one with selectors,
    which refuse it. Folders of earlier versions that record no prompt run behind any."""
    name = {"distil": "embedded/distilled", "tah": "embedded/tah"}[model]
    plain = {argument: with_prompt(name, settings, MADE_PLAINLY, tmp_path / "plain")}
    assert counts(run(model, plain, ZERO_SHOT))["tokens"] > 0
    message = (
        r" it was made with another prompt \(num_fewshot 0, now 1; system_instruction None, now 'Think.'\)"
    )
    with pytest.raises(error, match=message):
        run(model, plain, ONE_SHOT, **SYSTEM)
    assert counts(run(model, {**plain, "other_prompt": True}, ONE_SHOT, **SYSTEM))["tokens"] > 0
    older = {argument: with_prompt(name, settings, {}, tmp_path / "older")}
    assert counts(run(model, older, ONE_SHOT, **SYSTEM))["tokens"] > 0
    with pytest.raises(ValueError, match=r"^other_prompt: expected True or False, got 'yes'$"):
        run(model, {**plain, "other_prompt": "yes"}, ZERO_SHOT)


def test_requests_without_a_task_of_the_harness_have_no_settings_to_compare() -> None:
    lm = SelectToThink(STUDENT, device="cpu", **calibrated())
    assert lm.generate_until([generation("Question: 1?\nAnswer:", task="of no task")])


@pytest.mark.parametrize(
    ("task", "as_turns", "is_refused"),
    [(ONE_SHOT, True, False), (ONE_SHOT, False, True), (ZERO_SHOT, False, False)],
)
def test_examples_as_turns_are_another_prompt_than_examples_in_one_turn(
    task: dict[str, Any], as_turns: bool, is_refused: bool
) -> None:
    """A calibration made with examples as turns was accepted under `--fewshot_as_multiturn false`."""
    name = task["task"]
    loaded = task_manager().load([task])["tasks"][name]
    loaded.build_all_requests(
        limit=1,
        apply_chat_template=True,
        fewshot_as_multiturn=as_turns,
        chat_template=lambda turns, **_: str(turns),
    )
    settings = prompt_settings(name)
    assert settings is not None
    made = {"num_fewshot": int(task is ONE_SHOT), "apply_chat_template": True, "system_instruction": None}
    calibration = replace(Calibration.load(COMMITTED), prompt=made)
    if is_refused:
        with pytest.raises(CalibrationError, match=r"\(fewshot_as_multiturn True, now False\)"):
            calibration.require_prompt(settings.compared())
    else:
        calibration.require_prompt(settings.compared())


def test_settings_that_a_manifest_lacks_are_not_compared() -> None:
    calibration = Calibration.load(COMMITTED)
    with pytest.raises(CalibrationError, match=r"num_fewshot 0, now 5"):
        calibration.require_prompt({"num_fewshot": 5, "unknown": 1})
    calibration.require_prompt({"num_fewshot": 0, "unknown": 1})


def test_the_permission_is_true_or_false() -> None:
    with pytest.raises(ValueError, match=r"^other_prompt: expected True or False, got 'yes'$"):
        SelectToThink(STUDENT, device="cpu", **calibrated(other_prompt="yes"))
