"""Damaged, hostile and outdated files: one clear line that names the file, never a traceback."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from s2t_eval.artifacts.typed_json import conform, parse_json
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.distilled import DistilledError, read_distilled
from s2t_eval.methods.selector_info import SelectorError
from s2t_eval.methods.tah.checkpoint import read_info as read_tah
from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t_local import PPSLocal
from s2t_eval.models.loading import ModelLoadError, load_model
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.runs import read_runs
from s2t_eval.report.traces import read_trace
from s2t_eval.selection.calibration import Calibration, CalibrationError
from s2t_eval.training.labels import LabelError, LabelSet
from tests.commands import refused
from tests.harness_helpers import STUDENT, student_copy
from tests.report_helpers import EMBEDDED, edited

DEEP = "[" * 100_000
Change = Callable[[dict[str, Any]], object]


def checked_message(error: BaseException, path: object) -> str:
    message = str(error)
    assert "\n" not in message
    assert str(path) in message
    return message


# ---------------------------------------------------------------- results

RESULTS: dict[str, tuple[Change, str]] = {
    "a huge score": (
        lambda c: c["results"]["s2t_arith"].update({"exact_match,none": 10**400}),
        "a number of 401 digits is too large",
    ),
    "config null": (lambda c: c.update(config=None), "config: expected an object, got null"),
    "config a text": (lambda c: c.update(config="x"), 'config: expected an object, got "x"'),
    "results a list": (lambda c: c.update(results=[1]), "results: expected an object, got [1]"),
    "results of a number": (lambda c: c["results"].update(s2t_arith=3), "results.s2t_arith: expected an obj"),
    "no n-samples": (lambda c: c.pop("n-samples"), "it has no n-samples"),
    "n-samples a list": (lambda c: c.update({"n-samples": []}), "n-samples: expected an object, got []"),
    "n-samples of other tasks": (lambda c: c.update({"n-samples": {}}), "n-samples has no effective number"),
    "n-samples a text": (
        lambda c: c["n-samples"].update(s2t_arith={"effective": "all"}),
        'n-samples.s2t_arith.effective: expected a whole number, got "all"',
    ),
    "configs null": (lambda c: c.update(configs=None), "configs: expected an object, got null"),
    "a task's config null": (lambda c: c["configs"].update(s2t_arith=None), "configs.s2t_arith: expected"),
    "limits a text": (
        lambda c: c["configs"]["s2t_arith"].update(generation_kwargs="x"),
        'configs.s2t_arith.generation_kwargs: expected an object, got "x"',
    ),
    "ours a list": (lambda c: c["config"].update(s2t_eval=[]), "config.s2t_eval: expected an object"),
    "costs a text": (
        lambda c: c["config"]["s2t_eval"].update(telemetry="none"),
        'config.s2t_eval.telemetry: expected an object, got "none"',
    ),
    "a cost a text": (
        lambda c: c["config"]["s2t_eval"]["telemetry"].update(tokens="many"),
        'config.s2t_eval.telemetry.tokens: expected a finite number, got "many"',
    ),
    "trigger a text": (
        lambda c: c["config"]["s2t_eval"]["policy"].update(trigger="kl"),
        'config.s2t_eval.policy.trigger: expected an object, got "kl"',
    ),
    "arguments a number": (
        lambda c: c["config"].update(model_args=7),
        "config.model_args: expected a text or",
    ),
    "date a text": (lambda c: c.update(date="today"), 'date: expected a finite number, got "today"'),
    "documents a text": (lambda c: c.update(documents="x"), 'documents: expected an object, got "x"'),
    "documents of one word": (
        lambda c: c["documents"].update(s2t_arith=["doc_id score", "x"]),
        "its documents of s2t_arith cannot be read",
    ),
    "no documents in the table": (
        lambda c: c["documents"].update(s2t_arith=[]),
        "its documents of s2t_arith cannot be read",
    ),
    "groups a list": (lambda c: c.update(group_subtasks=[1]), "group_subtasks: expected an object, got [1]"),
    "model null": (lambda c: c["config"].update(model=None), "unknown method: config.model is 'None'"),
}


@pytest.mark.parametrize("damage", RESULTS)
def test_results_of_another_shape(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = RESULTS[damage]
    path = edited(EMBEDDED / "greedy.json", tmp_path / "greedy.json", change)
    with pytest.raises(ResultsError) as caught:
        read_runs([path])
    assert message in checked_message(caught.value, path)
    assert message in refused(capsys, "report", path, "--out", tmp_path / "out")


@pytest.mark.parametrize("content", [DEEP, "{" * 50, "[1, 2]", "7", "null", "", '{"a": ' * 60_000, "\x00"])
def test_results_that_are_no_object(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results_x.json"
    path.write_text(content)
    with pytest.raises(ResultsError) as caught:
        read_runs([path])
    checked_message(caught.value, path)


def test_results_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "results_x.json"
    path.write_bytes(b'{"results": "\xff\xfe"}')
    with pytest.raises(ResultsError, match=r"results_x\.json: it cannot be read as JSON"):
        read_runs([path])


def test_cyclic_task_groups_terminate(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["group_subtasks"] = {"all": ["inner"], "inner": ["s2t_arith", "all", "inner"]}
        content["results"] |= {"all": {"exact_match,none": 0.5}, "inner": {}}

    assert read_runs([edited(EMBEDDED / "greedy.json", tmp_path / "g.json", change)])


# ---------------------------------------------------------------- traces

TRACE = sorted((EMBEDDED / "traces").glob("*.jsonl"))[0]
TRACES: dict[str, tuple[Change, str]] = {
    "steps a text": (lambda r: r.update(steps="many"), 'steps: expected a list, got "many"'),
    "a step a number": (lambda r: r.update(steps=[3]), "steps.0: expected an object, got 3"),
    "no candidates": (lambda r: r["steps"][0].pop("candidates"), "steps.0: it has no candidates"),
    "candidates a text": (
        lambda r: r["steps"][0].update(candidates="abc"),
        'steps.0.candidates: expected a list, got "abc"',
    ),
    "too few scores": (
        lambda r: r["steps"][0].update(scores=[1.0]),
        "scores, candidates and t are inconsistent",
    ),
    "a step after the end": (
        lambda r: r["steps"][0].update(t=10**6),
        "scores, candidates and t are inconsistent",
    ),
    "tokens a text": (lambda r: r.update(output_ids="abc"), 'output_ids: expected a list, got "abc"'),
    "tokens of texts": (
        lambda r: r.update(output_ids=["a"]),
        'output_ids.0: expected a whole number, got "a"',
    ),
    "document a text": (lambda r: r.update(doc_id="x"), 'doc_id: expected a whole number, got "x"'),
    "no method": (lambda r: r.pop("method"), "it has no method"),
    "method null": (lambda r: r.update(method=None), "method: expected a text, got null"),
    "no threshold": (lambda r: r.pop("threshold"), "it has no threshold"),
    "threshold a text": (
        lambda r: r.update(threshold="x"),
        "threshold: expected a finite number or one of inf, -inf, got",
    ),
    "a negative token": (lambda r: r["steps"][0].update(greedy=-5), "steps.0: expected token ids from 0 on"),
    "teacher a text": (
        lambda r: r["steps"][0].update(teacher="x"),
        'steps.0.teacher: expected a whole number, got "x"',
    ),
}


@pytest.mark.parametrize("damage", TRACES)
def test_traces_of_another_shape(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = TRACES[damage]
    records = [json.loads(line) for line in TRACE.read_text().split("\n") if line]
    fired = next(i for i, record in enumerate(records) if record["steps"])
    change(records[fired])
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(ResultsError) as caught:
        read_trace(path)
    assert message in checked_message(caught.value, f"{path}:{fired + 1}: not a trace of s2t-eval: ")
    arguments = ("report", EMBEDDED / "greedy.json", "--trace", path, "--out", tmp_path / "out")
    assert message in refused(capsys, *arguments)


# ---------------------------------------------------------------- selectors and other folders


def selector_copy(folder: Path, change: Change) -> Path:
    shutil.copytree(embedded_path("embedded/selector"), folder)
    return edited(folder / "selector.json", folder / "selector.json", change).parent


SELECTORS: dict[str, tuple[Change, str]] = {
    "format 99": (
        lambda s: s.update(format=99, new_field=1),
        "its selector.json has format 99, expected 2 or 1; make it again with `s2t-eval train`, or update",
    ),
    "format a text": (lambda s: s.update(format="1"), 'has format "1", expected 2 or 1'),
    "thresholds a text": (lambda s: s.update(thresholds="x"), 'thresholds: expected an object, got "x"'),
    "a threshold a text": (
        lambda s: s["thresholds"]["base"]["entropy"].update({"0.05": "x"}),
        'thresholds.base.entropy.0.05: expected a finite number, got "x"',
    ),
    "a threshold NaN": (
        lambda s: s["thresholds"]["base"]["entropy"].update({"0.05": float("nan")}),
        "thresholds.base.entropy.0.05: expected a finite number, got NaN",
    ),
    "weight NaN": (
        lambda s: s.update(proposal_weight=float("nan")),
        "proposal_weight: expected a finite number",
    ),
    "scale infinite": (
        lambda s: s.update(adapter_scale=float("inf")),
        "adapter_scale: expected a finite number",
    ),
    "a rate a word": (
        lambda s: s["thresholds"]["base"]["entropy"].update(often=0.5),
        "thresholds.entropy: expected rates from 0 to 1 as names, got 'often'",
    ),
    "a form of another": (lambda s: s.update(form="x"), "form: expected one of "),
    "no thresholds": (lambda s: s.pop("thresholds"), "it has no 'thresholds'"),
    "an unknown field": (lambda s: s.update(colour="red"), "it has an unknown 'colour'"),
    "bins a text": (lambda s: s.update(bins="16"), 'bins: expected a whole number, got "16"'),
    "default empty": (lambda s: s["defaults"].update(base={}), "defaults.base: it has no 'trigger'"),
    "default of no trigger": (
        lambda s: s["defaults"]["base"].update(trigger="x"),
        "defaults.base.trigger: expected one of",
    ),
    "default NaN": (
        lambda s: s["defaults"]["base"].update(tau=float("nan")),
        "defaults.base.tau: expected a finite number",
    ),
    "format 1 without its default": (lambda s: s.update(format=1), "cannot be read ('default')"),
}


@pytest.mark.parametrize("damage", SELECTORS)
def test_selector_settings_of_another_shape(damage: str, tmp_path: Path) -> None:
    change, message = SELECTORS[damage]
    folder = selector_copy(tmp_path / "selector", change)
    with pytest.raises(SelectorError) as caught:
        PPSLocal(STUDENT, selector=str(folder))
    assert message in checked_message(caught.value, folder)


@pytest.mark.parametrize("content", [DEEP, "", "{", "[]", '{"thresholds": ' * 60_000, "\x00", "\ufeff{}"])
def test_selector_settings_that_are_no_object(content: str, tmp_path: Path) -> None:
    folder = selector_copy(tmp_path / "selector", lambda _: None)
    (folder / "selector.json").write_text(content)
    with pytest.raises(SelectorError) as caught:
        PPSLocal(STUDENT, selector=str(folder))
    checked_message(caught.value, folder)


@dataclass
class TouchesFileWhenUnpickled:
    """Creates a file when it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return (Path.touch, (self.path,))


def test_pickled_adapter_is_never_read(tmp_path: Path) -> None:
    folder, touched = selector_copy(tmp_path / "selector", lambda _: None), tmp_path / "unpickled"
    pickled = pickle.dumps(TouchesFileWhenUnpickled(touched))
    pickle.loads(pickled)
    touched.unlink()  # reading it creates the file
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickled)
    with pytest.raises(SelectorError) as caught:
        PPSLocal(STUDENT, selector=str(folder))
    assert (
        "it has no adapter_model.safetensors; weights of another form, such as a pickle"
        in checked_message(caught.value, folder)
    )
    with pytest.raises(ModelLoadError, match=r"^peft=.*: its weights are a pickle \(adapter_model\.bin\)"):
        Greedy(STUDENT, peft=str(folder))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"peft_type": "LOHA"}', "expected an adapter of kind LORA, got LOHA"),
        ('{"peft_type": "PROMPT_TUNING"}', "expected an adapter of kind LORA, got PROMPT_TUNING"),
        ("{}", "expected an adapter of kind LORA, got None"),
        ("{broken", "its adapter_config.json cannot be read"),
        (DEEP, "its adapter_config.json cannot be read (it is nested too deeply)"),
        ('{"peft_type": "LORA", "r": "x", "target_modules": 7}', "the adapter in "),
    ],
    ids=["loha", "prompt", "empty", "broken", "deep", "fields"],
)
def test_adapters_of_another_kind(config: str, message: str, tmp_path: Path) -> None:
    folder = selector_copy(tmp_path / "selector", lambda _: None)
    (folder / "adapter_config.json").write_text(config)
    with pytest.raises(SelectorError) as caught:
        PPSLocal(STUDENT, selector=str(folder))
    assert message in checked_message(caught.value, folder)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_prompt_tuning_adapter_is_rejected(tmp_path: Path) -> None:
    """The engine used to ignore the adapter's virtual tokens silently."""
    base = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(base, config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(ModelLoadError, match=r"^peft=.*: an adapter of kind PROMPT_TUNING puts tokens into"):
        Greedy(STUDENT, peft=str(tmp_path / "prompt"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("embedded/tah", "got a folder of `s2t-eval tah train`, whose adapter is for a token's further"),
        ("gone", "expected a hub name, or a folder with adapter_config.json and adapter_model.safetensors"),
    ],
)
def test_an_adapter_that_alone_is_another_model(name: str, message: str) -> None:
    """`--model greedy,peft=embedded/tah` decoded every token with the adapter of the further passes, and
    `export --peft` wrote such a checkpoint; a missing adapter was said to need a tokenizer."""
    with pytest.raises(ModelLoadError, match=f"^peft={name}: .*{re.escape(message)}"):
        Greedy(STUDENT, peft=name)


def test_a_selector_s_adapter_is_taken_where_it_counts_as_trained(tmp_path: Path) -> None:
    folder = tmp_path / "selector"
    shutil.copytree(embedded_path("embedded/selector"), folder)
    Greedy(STUDENT, peft=str(folder))
    info = json.loads((folder / "selector.json").read_text())
    (folder / "selector.json").write_text(json.dumps({**info, "adapter_scale": 0.5}))
    with pytest.raises(ModelLoadError, match=r"got a folder of `s2t-eval train`, .* by the factor 0\.5; run"):
        Greedy(STUDENT, peft=str(folder))


@pytest.mark.parametrize("role", ["pretrained", "teacher"])
def test_model_without_safetensors_is_rejected(role: str, tmp_path: Path) -> None:
    folder = student_copy(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    message = rf"^{role}={folder}: its weights are a pickle \(pytorch_model\.bin\).*; expected safetensors"
    with pytest.raises(ModelLoadError, match=message):
        Greedy(str(folder)) if role == "pretrained" else load_model(role, str(folder), "auto", "cpu", False)


def test_format_number_is_checked_first(tmp_path: Path) -> None:
    """A file of format 99 used to fail with a message about an unknown keyword."""
    later = {"format": 99, "something": "new"}
    for name in ("calibration.json", "distil.json", "tah.json", "manifest.json"):
        (tmp_path / name).write_text(json.dumps(later))
    for read, error in (
        (lambda: Calibration.load(tmp_path / "calibration.json"), CalibrationError),
        (lambda: read_distilled("peft", str(tmp_path)), DistilledError),
        (lambda: read_tah(tmp_path), TahError),
        (lambda: LabelSet.load(tmp_path), LabelError),
    ):
        with pytest.raises(error, match=r"format 99") as caught:
            read()
        assert "something" not in checked_message(caught.value, tmp_path)


@pytest.mark.parametrize("content", [DEEP, "[]", '{"format": 1, "thresholds": {"kl": {"0.1": NaN}}}'])
def test_calibrations_of_another_shape(content: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(CalibrationError, match=r"it cannot be read \(.+\); make it again with") as caught:
        Calibration.load(path)
    checked_message(caught.value, path)


def test_calibration_thresholds_must_be_finite(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["thresholds"]["entropy"] = {"0.05": float("nan")}

    path = edited(EMBEDDED / "calibration.json", tmp_path / "c.json", change)
    with pytest.raises(CalibrationError, match=r"thresholds\.entropy\.0\.05: expected a finite .*, got NaN"):
        Calibration.load(path)


def test_calibration_rates_must_be_numbers(tmp_path: Path) -> None:
    """An invalid rate used to raise "could not convert string to float" after the models were loaded."""

    def change(content: dict[str, Any]) -> None:
        content["thresholds"]["entropy"]["often"] = 0.5

    path = edited(EMBEDDED / "calibration.json", tmp_path / "c.json", change)
    with pytest.raises(
        CalibrationError, match=r"thresholds\.entropy: expected rates from 0 to 1 as names, got"
    ):
        Calibration.load(path)


# ---------------------------------------------------------------- the pieces


def test_values_are_checked_against_annotations() -> None:
    assert conform([1, 2], list[int], "x") == [1, 2]
    assert conform([1, 2], tuple[int, ...], "x") == (1, 2)
    assert conform(3, float, "x") == 3
    assert conform(None, float | None, "x") is None
    for value, hint, message in (
        (True, int, "x: expected a whole number, got true"),
        (True, float, "x: expected a finite number, got true"),
        ([1, "a"], list[int], 'x.1: expected a whole number, got "a"'),
        ({"a": {"b": 1}}, dict[str, dict[str, str]], "x.a.b: expected a text, got 1"),
        (7, str | dict[str, Any] | None, "x: expected a text or an object, got 7"),
        ("y" * 90, int, f'x: expected a whole number, got "{"y" * 59}…'),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            conform(value, hint, "x")
        assert str(caught.value) == message


def test_integers_beyond_float_range_are_rejected() -> None:
    assert parse_json("1" * 300) == int("1" * 300)
    for digits in (309, 5000):
        with pytest.raises(ValueError, match=rf"a number of {digits} digits is too large"):
            parse_json("[" + "1" * digits + "]")
