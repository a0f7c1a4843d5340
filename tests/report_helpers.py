"""Result folders in lm_eval's format, created from runs of the embedded pair."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.loggers import EvaluationTracker

from s2t_eval.reproduce.read import read_recipe
from tests.harness_helpers import Results, evaluate

REPOSITORY = Path(__file__).resolve().parents[1]
BASELINES = REPOSITORY / "results" / "baselines"
EMBEDDED = BASELINES / "embedded"
REAL = BASELINES / "gsm8k-qwen"
QWEN_200 = BASELINES / "gsm8k-qwen-200"
ROWS = tuple(read_recipe("embedded").recipe.methods)
"""Names of the files of EMBEDDED."""


def save(results: Results, folder: Path) -> Path:
    """Write results and samples below a folder with the harness's writer."""
    kept = copy.deepcopy(results)
    samples = kept.pop("samples")
    kept["config"] = json.loads(json.dumps(kept["config"], default=str))
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name = "pair"
    tracker.general_config_tracker.model_name_sanitized = "pair"
    tracker.save_results_aggregated(results=kept, samples=samples)
    for task, of_task in samples.items():
        tracker.save_results_samples(task_name=task, samples=of_task)
    return folder


def run_to(folder: Path, model: str, limit: int = 12, **model_args: Any) -> Path:
    """Evaluate a backend on the embedded pair into a folder."""
    return save(evaluate(model, model_args, limit=limit), folder)


def edited(path: Path, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a results file with changed content."""
    content = json.loads(path.read_text())
    change(content)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content))
    return out


def stock_hf(content: dict[str, Any]) -> None:
    """As if lm_eval's own hf backend had made a run; for `edited`."""
    content["config"]["model"] = "hf"
    del content["config"]["s2t_eval"]


def other_limit(content: dict[str, Any]) -> None:
    """As if a run had been made with another limit of new tokens; for `edited`."""
    content["configs"]["s2t_arith"]["generation_kwargs"]["max_gen_toks"] = 512


def scored(folder: Path, **documents: Sequence[int]) -> list[Path]:
    """Copies of runs of EMBEDDED, by their names, in which these documents alone have a score."""
    paths = []
    for name, numbers in documents.items():

        def change(content: dict[str, Any], kept: Sequence[int] = numbers) -> None:
            [lines] = content["documents"].values()
            for number, line in enumerate(lines[1:]):
                if number not in kept:
                    lines[number + 1] = line.rpartition(" ")[0] + " -"

        paths.append(edited(EMBEDDED / f"{name}.json", folder / f"{name}.json", change))
    return paths
