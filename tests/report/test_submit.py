"""Leaderboard files: read back by the libraries that define them, and honest about the method."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from s2t_eval.report.blocks import arrange
from s2t_eval.report.every_eval_ever import find_validator
from s2t_eval.report.runs import read_runs
from s2t_eval.report.submission import details, notes, prompt_hash
from tests.commands import exit_code
from tests.report_helpers import EMBEDDED, REAL, ROWS, edited, stock_hf

SLM, TINY = REAL / "greedy.json", EMBEDDED / "greedy.json"
DATASET = ("--dataset", "s2t_arith=me/arith:arith")
VALIDATOR = os.environ.get("S2T_EVAL_EEE_VALIDATOR") or find_validator()


def submit(*arguments: object) -> int:
    return exit_code("submit", *arguments)


def test_eval_results_are_read_back_by_the_hubs_own_class(tmp_path: Path) -> None:
    assert submit(EMBEDDED, "--to", "eval-results", "--out", tmp_path, *DATASET) == 0
    files = sorted(tmp_path.rglob("*.yaml"))
    assert len(files) == len(ROWS)  # greedy of the student and of the teacher do not meet
    assert all(path.parent.name == ".eval_results" for path in files)
    [path] = (tmp_path / "embedded-student-s2t-teacher-kl-tau-5-k-8").rglob("*.yaml")
    [entry] = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("me/arith", "arith", 80.33)
    assert entry.date and entry.date.endswith("Z")
    for detail in ("NOT the plain model's score", "K 8", "tau 0.05", "TeacherSelector", "n 300 of 300"):
        assert detail in str(entry.notes)
    run = read_runs([EMBEDDED / "s2t_kl_tau5.json"])[0]
    assert f"prompt_hash {prompt_hash(run)}" in str(entry.notes)


def test_only_plain_decoding_goes_without_the_warning() -> None:
    for run in read_runs([EMBEDDED]):
        assert ("NOT the plain model's" in notes(run)) == (run.method.key != "greedy")
        assert {"method", "prompt_hash", "task_version", "metric", "n"} <= details(run).keys()


def test_greedy_of_an_adapted_student_is_not_the_plain_model(tmp_path: Path) -> None:
    def adapt(content: dict[str, Any]) -> None:
        content["config"]["model_args"] = {**content["config"]["model_args"], "peft": "plain"}

    path = edited(TINY, tmp_path / "tuned.json", adapt)
    [run] = read_runs([path])
    assert run.method.title == "Tuned" and "NOT the plain model's" in notes(run)
    [entry] = arrange([run])
    assert entry.label == "Tuned" and not entry.is_teacher


def test_notes_tell_what_a_selector_was_weighed_with(tmp_path: Path) -> None:
    def weigh(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["adapter_scale"] = 0.7
        content["config"]["s2t_eval"]["policy"]["proposal_weight"] = 0.5

    [run] = read_runs([edited(EMBEDDED / "pps_local.json", tmp_path / "weighed.json", weigh)])
    assert "proposal_weight 0.5" in notes(run) and "adapter_scale 0.7" in notes(run)


def test_notes_tell_how_the_weights_were_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A 4-bit run was submitted as the score of the model itself, in files equal to those of its own weights
    but for the score; no note named a revision, a GGUF file or sampling either."""

    def quantize(content: dict[str, Any]) -> None:
        content["config"]["model_args"] |= {"load_in_4bit": True, "load_in_8bit": False, "revision": "step-9"}
        kwargs = content["configs"]["s2t_arith"]["generation_kwargs"]
        kwargs |= {"temperature": 0.7, "do_sample": True}

    path = edited(TINY, tmp_path / "packed.json", quantize)
    [run], [plain] = read_runs([path]), read_runs([TINY])
    for expected in (
        "NOT the plain model's score",
        "load_in_4bit True",
        "revision step-9",
        '"temperature": 0.7',
    ):
        assert expected in notes(run) and expected not in notes(plain)
    assert "load_in_8bit" not in notes(run)
    files = {}
    for source in (TINY, path):
        out = tmp_path / source.stem
        assert submit(source, "--to", "model-index", "--model_id", "org/tiny", "--out", out, *DATASET) == 0
        [files[source]] = out.rglob("README.md")
    assert files[TINY].parent.name != files[path].parent.name
    title = "model-index:\n- name: org/tiny decoded with Greedy, load_in_4bit True\n"
    assert title in files[path].read_text() and title not in files[TINY].read_text()

    stock = edited(path, tmp_path / "stock.json", stock_hf)
    assert "NOT the plain model's score" in notes(read_runs([stock])[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoints/final", r"'checkpoints/final': expected a Hub name, got a folder; give --model_id"),
        ("org/my model", r"'org/my model': expected a Hub name; give --model_id ORG/NAME"),
    ],
)
def test_a_folder_is_no_name_on_the_hub(
    name: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A card named the folder `checkpoints/final` as its base model on the Hub, because it has one slash."""
    (tmp_path / name).mkdir(parents=True)
    path = edited(TINY, tmp_path / "greedy.json", lambda c: c["config"]["s2t_eval"].update(pretrained=name))
    monkeypatch.chdir(tmp_path)
    arguments = (path, "--to", "model-index", "--out", tmp_path / "out", *DATASET)
    wrong = ("--model_id", name) if " " in name else ()
    assert submit(*arguments, *wrong) == 2
    assert message in capsys.readouterr().err
    assert submit(*arguments, "--model_id", "org/tiny") == 0


def test_a_model_card_names_the_method_wherever_a_score_stands(tmp_path: Path) -> None:
    arguments = (EMBEDDED / "maj8.json", "--to", "model-index", "--out", tmp_path, *DATASET)
    assert submit(*arguments, "--model_id", "org/tiny", "--source_url", "https://example.org/e") == 0
    [path] = tmp_path.rglob("README.md")
    name, results = model_index_to_eval_results(ModelCard.load(path).data.to_dict()["model-index"])
    assert name == "org/tiny decoded with Maj@8"
    assert results[0].metric_value == 31.33
    assert "decoded with Maj@8" in str(results[0].metric_name)
    assert results[0].metric_args["samples"] == "8"
    assert ModelCard.load(path).data.base_model == "org/tiny"


def test_every_eval_ever_accepts_what_is_written(tmp_path: Path) -> None:
    if VALIDATOR is None:
        pytest.skip("every-eval-ever is not installed (Python 3.12 or later; S2T_EVAL_EEE_VALIDATOR=command)")
    arguments = (EMBEDDED, "--to", "every-eval-ever", "--out", tmp_path, *DATASET, "--validator", VALIDATOR)
    assert submit(*arguments) == 0
    files = sorted(tmp_path.rglob("*.json"))
    assert len(files) == len(ROWS)
    records = [json.loads(path.read_text()) for path in files]
    ids = [record["model_info"]["id"] for record in records]
    assert len(set(ids)) == len(ROWS)
    assert "embedded/student" in ids and "embedded/student-maj-8" in ids
    for path, record in zip(files, records, strict=True):
        assert path.relative_to(tmp_path / "data").parts[1:3] == tuple(record["model_info"]["id"].split("/"))


def test_the_figures_of_every_eval_ever_are_shares_with_their_interval(tmp_path: Path) -> None:
    """Its own validator, which needs a later Python, checks the form and no number."""
    accepting = tmp_path / "accepting"
    accepting.write_text("#!/bin/sh\n")
    accepting.chmod(0o755)
    arguments = ("--to", "every-eval-ever", "--model_id", "me/student", *DATASET, "--validator", accepting)
    error = {"exact_match_stderr,answer": 0.03}
    run = edited(TINY, tmp_path / "greedy.json", lambda c: c["results"]["s2t_arith"].update(error))
    assert submit(run, *arguments, "--out", tmp_path / "out") == 0
    [path] = (tmp_path / "out").rglob("*.json")
    [result] = json.loads(path.read_text())["evaluation_results"]
    figures = result["score_details"]
    assert figures["score"] == pytest.approx(133 / 300)
    uncertainty = figures["uncertainty"]
    assert uncertainty["num_samples"] == 300 and uncertainty["standard_error"]["value"] == 0.03
    interval = uncertainty["confidence_interval"]
    bounds = [interval[name] for name in ("lower", "upper")]
    assert [f"{100 * bound:.1f}" for bound in bounds] == ["38.8", "50.0"]
    assert (interval["confidence_level"], interval["method"]) == (0.95, "wilson")
    assert result["metric_config"]["lower_is_better"] is False
    assert result["metric_config"]["metric_unit"] == "proportion"


def test_the_validator_is_found_where_the_environment_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.venv/bin/s2t-eval submit` did not find the command that the extra had installed beside it."""
    command = tmp_path / "every_eval_ever"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert find_validator("every_eval_ever_of_nobody") is None
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_validator() == str(command)


def test_files_that_the_validator_rejects_are_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picky = tmp_path / "picky"
    picky.write_text("#!/bin/sh\necho no: $2\nexit 1\n")
    picky.chmod(0o755)
    out = tmp_path / "out"
    arguments = (EMBEDDED / "greedy.json", "--to", "every-eval-ever", "--out", out, *DATASET)
    assert submit(*arguments, "--validator", picky) == 2
    assert "rejects the files:\nno: data/arith-embedded/embedded/student/" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SLM, "--to", "eval-results"), "run on 96 of 1319 documents"),
        (
            (EMBEDDED / "greedy.json", "--to", "eval-results"),
            "no known dataset on the Hub; give --dataset s2t_",
        ),
        (
            (REAL / "greedy.json", "--to", "model-index", "--allow_partial"),
            "'qwen-0.5b': expected a Hub name",
        ),
        (
            (EMBEDDED / "greedy.json", "--to", "model-index", "--dataset", "x"),
            "expected TASK=ORG/DATASET:TASK",
        ),
        (
            (TINY, "--to", "eval-results", *DATASET, "s2t_arth=me/arith:arith"),
            "--dataset: none of the runs is of task 's2t_arth'; there are s2t_arith",
        ),
        ((TINY, "--to", "eval-results", *DATASET, "--organization", "me"), "give --source_url too"),
        ((TINY, "--to", "model-index", *DATASET, "--validator", "v"), "--validator: it is of --to every"),
        (
            (TINY, "--to", "every-eval-ever", *DATASET, "--validator", "none-such"),
            "no validator: none-such is not on the path; pip install",
        ),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Any, message: str
) -> None:
    out = tmp_path / "out"
    assert submit(*arguments, "--out", out) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("value", [12.5, -0.1, float("nan")])
@pytest.mark.parametrize("form", ["eval-results", "model-index", "every-eval-ever"])
def test_a_score_that_is_no_share_is_not_submitted(
    form: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A perplexity of 12.5 was written as a score of 1250 %."""
    path = edited(
        TINY,
        tmp_path / "greedy.json",
        lambda c: c["results"]["s2t_arith"].update({"exact_match,answer": value}),
    )
    out = tmp_path / "out"
    assert submit(path, "--to", form, "--out", out, *DATASET) == 2
    assert f"s2t_arith has the exact_match {value:g}; expected a share from 0 to 1" in capsys.readouterr().err
    assert not out.exists()


def test_stock_runs_are_not_called_ours(tmp_path: Path) -> None:
    """Texts of lm_eval's own hf backend were said to be of the installed version of s2t-eval."""
    ours = edited(TINY, tmp_path / "greedy.json", lambda c: c.update(transformers_version="5.0.0"))
    stock = edited(ours, tmp_path / "hf.json", stock_hf)
    accepting = tmp_path / "accepting"
    accepting.write_text("#!/bin/sh\n")
    accepting.chmod(0o755)
    arguments = ("--to", "every-eval-ever", "--model_id", "me/student", *DATASET)
    address = "https://example.org/e"
    more = ("--validator", accepting, "--source_url", address)
    assert submit(stock, *arguments, *more, "--out", tmp_path / "stock") == 0
    [path] = (tmp_path / "stock").rglob("*.json")
    record = json.loads(path.read_text())
    assert record["model_info"]["inference_engine"] == {"name": "transformers", "version": "5.0.0"}
    assert "s2t_eval" not in record["eval_library"]["additional_details"]
    assert record["eval_library"]["additional_details"]["source_url"] == address
    assert submit(ours, *arguments, *more, "--out", tmp_path / "ours") == 0
    [path] = (tmp_path / "ours").rglob("*.json")
    engine = json.loads(path.read_text())["model_info"]["inference_engine"]
    assert engine == {"name": "s2t-eval", "version": read_runs([TINY])[0].backend_info["version"]}


def test_documents_without_a_score_are_refused_too(tmp_path: Path) -> None:
    def forget(content: dict[str, Any]) -> None:
        lines = content["documents"]["s2t_arith"]
        lines[1] = lines[1].rsplit(" ", 1)[0] + " -"

    path = edited(EMBEDDED / "greedy.json", tmp_path / "greedy.json", forget)
    arguments = (path, "--to", "eval-results", "--out", tmp_path / "out", *DATASET)
    assert submit(*arguments) == 2
    assert submit(*arguments, "--allow_partial") == 0


def test_without_samples_there_is_no_prompt_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = edited(EMBEDDED / "greedy.json", tmp_path / "greedy.json", lambda c: c.pop("documents"))
    assert submit(path, "--to", "eval-results", "--out", tmp_path / "out", *DATASET) == 2
    assert "run lm_eval with --log_samples" in capsys.readouterr().err
