"""Files for Every Eval Ever (schema 0.2.2), checked by that project's validator before they are written.

The validator is the command `every_eval_ever` (`pip install "s2t-eval[every-eval-ever]"`, Python 3.12 or
later). It may be installed in an environment of its own, since it is run as a process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.files import write_text
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.cells import accuracy
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.origin import UNKNOWN, is_stock
from s2t_eval.report.run import Run
from s2t_eval.report.submission import Claim, details, is_plain, label, notes, require_whole, slug

SCHEMA = "0.2.2"


def find_validator(name: str | None = None) -> str | None:
    """The path of the validator's command; None where there is none.

    Args:
        name: the command; None (default) for `every_eval_ever`. Programs of this Python's environment, which
            need not be activated, come before those on the path.
    """
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return shutil.which(name or "every_eval_ever", path=os.pathsep.join(filter(None, folders)))


def write_every_eval_ever(
    runs: Sequence[Run], folder: Path, claim: Claim, validator: str | None = None
) -> list[Path]:
    """`FOLDER/data/COLLECTION/DEVELOPER/MODEL/UUID.json`, one file for each run.

    Args:
        runs: of all documents.
        folder: to write to.
        claim: see `Claim`; the model needs a name on the Hub.
        validator: the command of every-eval-ever; see `find_validator`.

    Raises:
        ResultsError: no validator, or a file that it rejects; nothing is written then.
    """
    require_whole(runs, claim)
    command = find_validator(validator)
    if command is None:
        raise ResultsError(
            f"no validator: {validator or 'every_eval_ever'} is not on the path; pip install "
            '"s2t-eval[every-eval-ever]" on Python 3.12 or later, or name its command with --validator'
        )
    texts = {_path(run, claim): json.dumps(_record(run, claim), indent=1) + "\n" for run in runs}
    with tempfile.TemporaryDirectory() as scratch:
        _write(texts, Path(scratch))
        done = subprocess.run(
            [command, "validate", *map(str, texts)], cwd=scratch, capture_output=True, text=True
        )
    if done.returncode:
        raise ResultsError(f"every_eval_ever rejects the files:\n{done.stdout}{done.stderr}")
    return _write(texts, folder)


def _write(texts: dict[Path, str], folder: Path) -> list[Path]:
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / path, text)
    return [folder / path for path in texts]


def _path(run: Run, claim: Claim) -> Path:
    developer, name = _model_id(run, claim).split("/")
    collection = slug(benchmark_of(run.task).title)
    identity = f"{run.source.name} {run.identity} {run.date}"
    return Path("data", collection, developer, name, f"{_uuid4_of(identity)}.json")


def _uuid4_of(text: str) -> uuid.UUID:
    """An id in the form of version 4 that is always the same for the same run."""
    return uuid.UUID(bytes=uuid.uuid5(uuid.NAMESPACE_URL, text).bytes, version=4)


def _model_id(run: Run, claim: Claim) -> str:
    """The student's id for its own decoding; the name of any other method, or quantization, is appended."""
    model = claim.model(run)
    return model if is_plain(run) else f"{model}-{slug(label(run))}"


def _record(run: Run, claim: Claim) -> dict[str, Any]:
    model = _model_id(run, claim)
    dataset, _ = claim.dataset(run)
    now = str(time.time())
    info = {"deployment_type": "self_deployed", "model_availability": "open_weights"}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{run.task}/{model.replace('/', '_')}/{run.date}",
        "evaluation_timestamp": str(run.date),
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "s2t-eval",
            "source_type": "evaluation_run",
            "source_organization_name": claim.organization or "unnamed",
            "evaluator_relationship": "third_party",
        },
        "eval_library": {
            "name": "lm_eval",
            "version": str(run.results.get("lm_eval_version") or UNKNOWN),
            "additional_details": details(run)
            | ({"source_url": claim.source_url} if claim.source_url else {}),
        },
        "model_info": {
            "name": model,
            "id": model,
            "developer": model.split("/")[0],
            "inference_engine": _engine(run),
            "additional_details": {**info, "base_model": claim.model(run), "notes": notes(run)},
        },
        "evaluation_results": [_result(run, dataset)],
    }


def _engine(run: Run) -> dict[str, str]:
    """What generated the texts: of lm_eval's own hf backend transformers."""
    if is_stock(run):
        return {"name": "transformers", "version": str(run.results.get("transformers_version") or UNKNOWN)}
    return {"name": "s2t-eval", "version": str(run.backend_info.get("version") or UNKNOWN)}


def _result(run: Run, dataset: str) -> dict[str, Any]:
    limit = run.length_limit
    uncertainty: dict[str, Any] = {"num_samples": run.n}
    if run.stderr is not None:
        uncertainty["standard_error"] = {"value": run.stderr, "method": "analytic"}
    outcome = accuracy(run)
    low, high = outcome.interval
    if low == low:
        bounds = {"lower": low, "upper": high, "confidence_level": 0.95, "method": outcome.method}
        uncertainty["confidence_interval"] = bounds
    return {
        "evaluation_name": run.task,
        "source_data": {"dataset_name": run.task, "source_type": "hf_dataset", "hf_repo": dataset},
        "metric_config": {
            "evaluation_description": f"{run.metric} under filter {run.filter}",
            "metric_name": run.metric,
            "metric_unit": "proportion",
            "lower_is_better": not run.is_higher_better,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {"score": run.value, "details": {"notes": notes(run)}, "uncertainty": uncertainty},
        "generation_config": {
            "generation_args": {"max_tokens": int(limit)} if limit else {},
            "additional_details": details(run),
        },
    }
