"""Backends without any `--model_args`: the first thing that a newcomer types has to run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.embedded import embedded_path
from s2t_eval.method_table import FIRING_MODELS
from s2t_eval.methods.selector_info import read_info
from s2t_eval.model_wrappers.embedded_pair import with_embedded_pair
from s2t_eval.model_wrappers.registration import BACKENDS
from s2t_eval.model_wrappers.usable_arguments import require_usable_arguments
from tests.forked import run_forked
from tests.harness_helpers import STUDENT, TEACHER, evaluate, ours, texts

PAIR = {"teacher": TEACHER, "selector": "embedded/selector", "tau": 0.05}
SELECTOR = {"selector": "embedded/selector"}
NAMED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "maj8": {},
    "maj_at_k": {},
    "distil": {"peft": "embedded/distilled"},
    "s2t": PAIR,
    "takeover": PAIR,
    "r2r": {"teacher": TEACHER, "router": "embedded/r2r", "tau": 0.05},
    "specreason": {"teacher": TEACHER, "score": "logprob", "delimiter": "sentence"},
    "s2t_local": SELECTOR,
    "pps_local": SELECTOR,
    "tot": {"value": "loglik", "delimiter": "sentence", "max_line": 16, "budget": 272},
    "tah": {"tah": "embedded/tah"},
}


def test_every_backend_has_its_line_here() -> None:
    assert NAMED.keys() == BACKENDS.keys()


@pytest.mark.parametrize("backend", NAMED)
def test_a_backend_without_arguments_runs_on_the_embedded_pair(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """To the same texts as with all of it named, and with one line that says what it runs on."""
    with caplog.at_level(logging.WARNING, logger="s2t_eval"):
        results = evaluate(backend, "", limit=2)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("s2t_eval")]
    assert len(said) == 1 and "without pretrained=MODEL: it runs on the embedded pair" in said[0]
    assert f"pretrained={STUDENT}" in said[0]
    named = evaluate(backend, NAMED[backend], limit=2)
    assert texts(results) == texts(named)
    assert ours(results)["pretrained"] == STUDENT
    for entry in (results, named):
        ours(entry)["telemetry"].clear()
    assert ours(results) == ours(named)


def test_the_stock_command_line_without_arguments(tmp_path: Path) -> None:
    command = ("-m", "lm_eval", "--model", "s2t_local", "--tasks", "s2t_arith", "--limit", "4")
    done = run_forked(*command, "--output_path", tmp_path / "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("it runs on the embedded pair, with pretrained=embedded/student,selector=") == 1
    assert "s2t_arith" in done.stdout and len(list((tmp_path / "out").rglob("results_*.json"))) == 1


@pytest.mark.parametrize("given", [{"threshold": 1.5}, {"trigger": "always"}, {"trigger": "never"}])
def test_no_rate_is_added_where_it_would_conflict(given: dict[str, Any]) -> None:
    full = with_embedded_pair("s2t", given)
    assert "tau" not in full and full["teacher"] == TEACHER
    assert len(texts(evaluate("s2t", ",".join(f"{k}={v}" for k, v in given.items()), limit=2))) == 2


def test_arguments_that_are_given_stay() -> None:
    assert with_embedded_pair("s2t", {"tau": 0.1})["tau"] == 0.1
    assert with_embedded_pair("s2t", {"pretrained": "x"}) == {"pretrained": "x"}
    assert with_embedded_pair("tah", {"tah": "mine"}) == {"tah": "mine", "pretrained": STUDENT}


@pytest.mark.parametrize(
    ("backend", "arguments", "message"),
    [
        ("s2t", f"pretrained={STUDENT},trigger=always", "it needs teacher=MODEL"),
        ("s2t_local", f"pretrained={STUDENT}", "needs selector=FOLDER"),
        ("pps_local", f"pretrained={STUDENT}", "--model pps_local: it needs selector=FOLDER"),
        ("tah", f"pretrained={STUDENT}", "it needs tah=FOLDER"),
        ("r2r", f"pretrained={STUDENT},router=embedded/r2r", "it needs teacher=MODEL"),
        ("specreason", f"pretrained={STUDENT}", "it needs teacher=MODEL"),
        ("distil", f"pretrained={STUDENT}", "it needs peft=FOLDER"),
        ("greedy", "pretraind=x", "did you mean 'pretrained'"),
    ],
)
def test_who_names_a_model_names_the_rest(backend: str, arguments: str, message: str) -> None:
    """Reproductions and scans found it at the run alone, after all that comes before it."""
    with pytest.raises(ValueError, match=message):
        require_usable_arguments(backend, arguments)
    with pytest.raises(ValueError, match=message):
        evaluate(backend, arguments, limit=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_that_a_backend_takes_from_the_embedded_pair_are_not_missed(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A scan over the embedded pair was refused: its rate needs a calibration, which is in the selector."""
    require_usable_arguments(backend, "batch_size=2")
    if backend in FIRING_MODELS:
        require_usable_arguments(backend, "top_k=4,tau=0.05")
    assert not caplog.records  # the run names the embedded pair, once


def test_the_shipped_thresholds_are_of_the_shipped_teacher() -> None:
    info = read_info(embedded_path("embedded/selector"))
    entry = ours(evaluate("s2t", "", limit=1))
    assert entry["teacher"] == info.teacher
    assert entry["policy"]["threshold"] == info.thresholds["base"]["kl:student_teacher"]["0.05"]


@pytest.mark.parametrize("backend", ["s2t", "takeover", "r2r", "s2t_local", "pps_local"])
def test_stock_tasks_run_without_arguments_too(backend: str) -> None:
    """`lm_eval --model s2t_local --tasks gsm8k` was refused: it has five examples, the selector none."""
    assert with_embedded_pair(backend, {})["other_prompt"] is True
    assert with_embedded_pair(backend, {"other_prompt": False})["other_prompt"] is False
    for artifact in ("selector", "router", "calibration"):
        assert "other_prompt" not in with_embedded_pair(backend, {artifact: "mine"})


@pytest.mark.parametrize(("backend", "artifact"), [("distil", "peft"), ("tah", "tah")])
def test_stock_tasks_run_on_the_embedded_trained_students_too(backend: str, artifact: str) -> None:
    assert with_embedded_pair(backend, {})["other_prompt"] is True
    assert "other_prompt" not in with_embedded_pair(backend, {artifact: "mine"})


@pytest.mark.parametrize("backend", ["greedy", "maj8", "specreason", "tot"])
def test_methods_without_such_artifacts_have_no_such_argument(backend: str) -> None:
    assert "other_prompt" not in with_embedded_pair(backend, {})
