"""Whole recipes in processes of their own: killed and gone on with, and the paper's on tiny random models."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.embedded import embedded_path
from s2t_eval.report.runs import read_runs
from tests.benchmark_folder import write_benchmarks
from tests.harness_helpers import student_copy, tiny_folder
from tests.reproduce.test_run import marked

pytestmark = pytest.mark.slow
PATIENCE = 1200.0
RECIPE = """
title: killed
models: {student: embedded/student, teacher: embedded/teacher, dtype: float32, device: cpu}
limits: {batch_size: 2}
labels: {problems: {task: s2t_arith, limit: 24}, steps: all}
methods:
  greedy: {model: greedy}
  s2t: {model: s2t, arguments: {teacher: "${teacher}", trigger: kl, threshold: 2.4}, trace: true}
tasks: [{task: s2t_arith, limit: 40}]
"""


def environment(data: Path | None = None) -> dict[str, str]:
    given = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    given |= {"S2T_DATA": str(data)} if data is not None else {}
    repository = str(Path(__file__).resolve().parents[2])
    return {**os.environ, **given, "PYTHONPATH": os.environ.get("PYTHONPATH", repository)}


def command(recipe: str, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "s2t_eval", "reproduce", recipe, "--out", str(out), *more]


def run(words: Sequence[str], folder: Path, data: Path | None = None) -> str:
    done = subprocess.run(words, cwd=folder, env=environment(data), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def killed_at(words: Sequence[str], folder: Path, log: Path, bar: str, sign: signal.Signals) -> int:
    """Start a run, and end it once the bar of a stage is a quarter full; its exit code."""
    pattern = re.compile(rf"{bar}: +(2[5-9]|[3-8]\d)%")
    with subprocess.Popen(
        words, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + PATIENCE
        while not (log.exists() and pattern.search(log.read_text(errors="replace"))):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(sign)
        assert process.stderr is not None
        said = process.stderr.read() if sign != signal.SIGKILL else ""
    if sign == signal.SIGINT:
        assert said.splitlines() == [
            "s2t-eval reproduce: interrupted at s2t_arith/greedy; the same command goes on from there"
        ]
    return process.returncode


def outputs(out: Path) -> dict[str, list[str]]:
    """Hashes of every text, by run."""
    found = {}
    for run in read_runs([out / "runs" / "s2t_arith"]):
        assert run.documents is not None
        found[run.name] = run.documents["output_hash"].tolist()
    return found


def test_a_recipe_that_is_killed_anywhere_ends_as_if_it_was_not(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(command("mine.yaml", whole), tmp_path)
    words = command("mine.yaml", out)
    labels, greedy = out / "logs" / "labels.log", out / "logs" / "s2t_arith--greedy.log"
    assert killed_at(words, tmp_path, labels, "Generating rollouts", signal.SIGKILL) == -signal.SIGKILL
    assert len(marked(out)) > 0 or (out / "labels" / "manifest.json").exists()
    assert killed_at(words, tmp_path, greedy, "greedy", signal.SIGINT) == 130
    assert marked(out) == []
    done = [path.name for path in (out / "cache").rglob("*.db")]
    assert done == ["greedy_rank0.db"]
    said = run(words, tmp_path)
    assert "labels: is done" in said and "s2t_arith/greedy: it was interrupted, and goes on" in said
    assert outputs(out) == outputs(whole)
    manifests = [json.loads((place / "labels" / "manifest.json").read_text()) for place in (out, whole)]
    assert manifests[0] == manifests[1]
    [results] = (out / "runs" / "s2t_arith" / "greedy").rglob("results_*.json")
    telemetry = json.loads(results.read_text())["config"]["s2t_eval"]["telemetry"]
    assert telemetry["texts"] == 40 and 0 < telemetry["cached_texts"] < 40
    assert len((out / "runs" / "s2t_arith" / "s2t.trace.jsonl").read_text().splitlines()) == 40
    assert (out / "report" / "report.html").is_file() and (out / "analysis" / "analysis.md").is_file()
    plan = run([*words, "--plan"], tmp_path)
    assert plan.splitlines()[-1] == "Everything is done."
    assert "greedy" in said and f"{out / 'report' / 'report.html'}" in said


ROWS = """
title: rows
models: {student: STUDENT, dtype: float32, device: cpu}
limits: {batch_size: 4}
methods:
  greedy: {model: greedy}
  stock: {model: hf}
  distil: {model: distil, arguments: {peft: ADAPTER}}
tasks: [{task: s2t_arith, limit: 4}]
"""


def test_the_table_has_the_rows_of_the_recipe_and_follows_its_files(tmp_path: Path) -> None:
    """A dropped row stayed in the report, one of stock hf kept it from being made, and an adapter that was
    trained again in place left its row as it was."""
    student, adapter, out = student_copy(tmp_path / "student"), tmp_path / "adapter", tmp_path / "out"
    shutil.copytree(embedded_path("embedded/distilled"), adapter)
    recipe = ROWS.replace("STUDENT", str(student)).replace("ADAPTER", str(adapter))
    (tmp_path / "mine.yaml").write_text(recipe)
    words = command("mine.yaml", out)
    run(words, tmp_path)
    table = (out / "report" / "report.md").read_text()
    assert all(row in table for row in ("Stock hf", "Greedy", "Distil")) and "stock hf of lm_eval" in table
    fewer = [*words, "--set", "methods={greedy: {model: greedy}, control: {model: hf}}"]
    assert "s2t_arith/greedy: is done" in run(fewer, tmp_path)
    table = (out / "report" / "report.md").read_text()
    assert "Stock hf" in table and "Distil" not in table
    assert {path.name for path in (out / "kept" / "s2t_arith").glob("*.json")} == {
        "greedy.json",
        "control.json",
    }
    assert (out / "runs" / "s2t_arith" / "distil").is_dir()  # it stays, for a recipe that names it again
    shutil.copytree(embedded_path("embedded/rlkd"), adapter, dirs_exist_ok=True)
    plan = run([*words, "--plan"], tmp_path)
    assert re.search(rf"s2t_arith/distil +runs: changed since: {adapter}", plan)
    assert re.search(r"s2t_arith/greedy +done", plan)


TABLE = """[{task: s2t_gsm8k}, {task: s2t_math500, methods: [greedy, s2t]}, {task: s2t_olympiadbench,
methods: [greedy]}, {task: s2t_aime25, methods: [greedy]}, {task: s2t_humaneval, methods: [greedy, maj8]},
{task: s2t_mmlu_pro, methods: [greedy], limit_of_each: {category: 1}}]"""


def math_problems(folder: Path) -> None:
    """Forty problems in the form of MATH's training problems."""
    (folder / "math_train").mkdir()
    rows = [
        {"problem": f"What is {i} plus {i + 3}?", "solution": f"It is {i} + {i + 3} = {2 * i + 3}."}
        for i in range(40)
    ]
    (folder / "math_train" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_paper_recipe_runs_end_to_end_on_tiny_models(tmp_path: Path) -> None:
    """Every stage of the paper's recipe, two seeds; the models are random, so only the way is checked."""
    student = tiny_folder(tmp_path / "tiny-0.5B", 0, max_position_embeddings=1024)
    teacher = tiny_folder(tmp_path / "tiny-32B", 1, hidden_size=48, max_position_embeddings=1024)
    data = write_benchmarks(tmp_path / "data")
    math_problems(data)
    out = tmp_path / "out"
    changes = [f"models.student={student}", f"models.teacher={teacher}", "models.dtype=float32"]
    changes += [
        "prompt.apply_chat_template=false",
        "limits.documents=2",
        "limits.problems=40",
        "seeds=[0, 1]",
    ]
    changes += ["limits.max_gen_toks=8", "limits.batch_size=8", f"tasks={TABLE}"]
    words = command("paper", out, "--set", *changes)
    said = run(words, tmp_path, data)
    assert "nothing is left" in said
    lock: dict[str, Any] = json.loads((out / "recipe.lock").read_text())
    assert all(step["status"] == "done" for step in lock["steps"].values())
    assert all(len(lock["models"][role]["fingerprints"]) == 1 for role in ("student", "teacher"))
    assert lock["artifacts"]["labels"]["data"]["problems"] == 40
    assert lock["artifacts"].keys() >= {"selector", "selector-seed1", "distilled", "looped", "calibration"}
    assert lock["device"]["used"] == "cpu" and lock["packages"]["lm-eval"]
    assert lock["data"]["s2t_gsm8k"]["task_hashes"] and lock["data"]["s2t_gsm8k"]["files"]
    tables = (out / "report" / "report.md").read_text()
    assert "S2T-Local" in tables and "Gain over greedy" in tables and "HumanEval" in tables
    order = list(lock["steps"])
    assert order.index("report") < order.index("s2t_gsm8k/kept")
    assert {path.name for path in (out / "report").glob("*.svg")} >= {"accuracy.svg", "pareto.svg"}
    checked = [sys.executable, "-m", "s2t_eval", "regrade", *map(str, (out / "kept").iterdir()), "--check"]
    assert "0 verdicts changed" in run(checked, tmp_path)
    assert run([*words, "--plan"], tmp_path, data).splitlines()[-1] == "Everything is done."
    again = run(words, tmp_path, data)
    assert again.count(": is done") == len(lock["steps"])
