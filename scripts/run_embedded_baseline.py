"""Run every row of recipes/embedded.yaml and write a file a run, as results/baselines/embedded holds them.

    python scripts/run_embedded_baseline.py --out runs/embedded # `make regress` does this, then compares
    python scripts/run_embedded_baseline.py --out results/baselines/embedded --calibrate  # `make baseline`

All rows run in one process through lm_eval's `simple_evaluate`, with fixed seeds in float32 on the CPU, so
that texts, scores and counts are reproducible. The texts are written beside the results, compressed, so
that `s2t-eval regrade` can grade them again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lm_eval
import torch
from lm_eval.tasks import TaskManager

from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.model_wrappers.registration import own_task_manager, register
from s2t_eval.report.baseline import baseline
from s2t_eval.report.documents import documents_of
from s2t_eval.report.kept_texts import SUFFIX, kept_texts, write_texts
from s2t_eval.reproduce.commands import option, options
from s2t_eval.reproduce.read import read_recipe, replaced_references
from s2t_eval.reproduce.stages import Evaluation, evaluations

BASELINE = Path(__file__).parents[1] / "results" / "baselines" / "embedded"
CALIBRATION = BASELINE / "calibration.json"
TRACES, TRACED_ITEMS = BASELINE / "traces", 12
RECIPE = read_recipe("embedded").recipe
[TASK] = {part.task for part in RECIPE.tasks}
METRIC, FILTER = "exact_match", "answer"
VOLATILE_FIELDS = ("seconds", "tokens_per_second", "peak_memory_bytes")


def calibrate() -> None:
    """Thresholds from training problems, into the committed file."""
    part, models = RECIPE.calibration, RECIPE.models
    assert part is not None
    command = [sys.executable, "-m", "s2t_eval", "calibrate", "--pretrained", models.student]
    command += [*option("teacher", models.teacher), *options(part.problems), *options(part, "problems")]
    CALIBRATION.unlink(missing_ok=True)  # of another pair it would not be replaced
    subprocess.run([*command, "--out", str(CALIBRATION)], check=True)


def model_args(row: Evaluation) -> dict[str, Any]:
    """The arguments of a row, with the committed calibration."""
    places = {**vars(RECIPE.models), "calibration": str(CALIBRATION)}
    placed: dict[str, Any] = replaced_references(row.arguments, lambda name: str(places[name]))
    return {**placed, "device": "cpu", "dtype": "float32"}


def run(row: Evaluation, manager: TaskManager, limit: int | None, out: Path) -> None:
    """Evaluate one row and write its file."""
    with patch("lm_eval.evaluator.add_env_info"):  # it runs pip to list the installed packages
        results = lm_eval.simple_evaluate(
            model=row.model,
            model_args=model_args(row),
            tasks=[TASK],
            batch_size=64,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
        )
    assert results is not None
    samples = results.pop("samples")[TASK]
    documents = documents_of(samples, METRIC, FILTER, str(out))
    content = json.loads(json.dumps(results, default=str))
    for name in VOLATILE_FIELDS:  # they differ between runs, independent of the methods
        content["config"]["s2t_eval"]["telemetry"].pop(name)
    text = json.dumps(baseline(content, {TASK: documents}), indent=1, ensure_ascii=False)
    write_text(out / f"{row.name}.json", text + "\n")
    write_texts(out / f"{row.name}{SUFFIX}", kept_texts(samples, TASK, METRIC, FILTER))


def trace(name: str, manager: TaskManager) -> None:
    """Write a few texts with their fired steps, for the viewer of the report page."""
    row = next(row for row in evaluations(RECIPE) if row.name == name)
    TRACES.mkdir(exist_ok=True)
    path = TRACES / f"{name}.jsonl"
    path.unlink(missing_ok=True)
    arguments = {**model_args(row), "trace": str(path)}
    with patch("lm_eval.evaluator.add_env_info"):
        lm_eval.simple_evaluate(
            model=row.model,
            model_args=arguments,
            tasks=[TASK],
            batch_size=64,
            limit=TRACED_ITEMS,
            task_manager=manager,
            bootstrap_iters=0,
        )
    lines = [line.record for line in read_json_lines(path)]
    for record in lines:
        record.pop("seconds")
        record["usage"].pop("seconds")
    lines.sort(key=lambda record: record["doc_id"])
    write_text(path, "".join(json.dumps(record) + "\n" for record in lines))


def main() -> None:
    """Run the selected rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calibrate", action="store_true", help="measure the thresholds again first")
    parser.add_argument("--limit", type=int, help="test items (default: all 300)")
    parser.add_argument("--only", nargs="+", help="names of rows")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if arguments.calibrate:
        calibrate()
    register()
    manager = own_task_manager()
    for row in evaluations(RECIPE):
        if not arguments.only or row.name in arguments.only:
            began = time.perf_counter()
            run(row, manager, arguments.limit, arguments.out)
            print(f"{row.name}: {time.perf_counter() - began:.1f} s", flush=True)
    if arguments.calibrate:
        for name in ("s2t_kl_tau5", "takeover_kl_tau5"):
            trace(name, manager)


if __name__ == "__main__":
    main()
