"""`recipe.lock`: what a reproduction was really made with."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.content import content_hash
from s2t_eval.artifacts.files import write_text
from s2t_eval.reproduce.environment import environment
from s2t_eval.reproduce.identity import data_identity, model_hash, name_on_command_lines
from s2t_eval.reproduce.read import ReadRecipe
from s2t_eval.reproduce.stages import EVALUATE, Stage
from s2t_eval.reproduce.state import State

LOCK = "recipe.lock"
FORMAT = 1
MANIFESTS = ("manifest.json", "selector.json", "distil.json", "tah.json", "r2r.json")


def write_lock(read: ReadRecipe, stages: Sequence[Stage], state: State) -> None:
    """Write the lock of what is there so far.

    Args:
        read: the recipe, as it was used.
        stages: its stages.
        state: their records.
    """
    lock = {
        "format": FORMAT,
        **_made_with(stages, state),
        "device": _device(read, stages),
        "models": _models(read, stages),
        "data": _data(stages),
        "artifacts": _artifacts(read, stages),
        "steps": {stage.name: _step(stage, state) for stage in stages},
        "recipe": {"file": read.source, **read.content},
    }
    write_text(state.out / LOCK, json.dumps(lock, indent=1, ensure_ascii=False, default=str) + "\n")


def _made_with(stages: Sequence[Stage], state: State) -> dict[str, Any]:
    """What the steps were made with: one value where they agree, else a list of all values."""
    records = [state.read(stage.name) for stage in stages]
    known = [record.made_with for record in records if record is not None and record.made_with]
    parts, present = {}, environment()
    for name in present:
        values = [one[name] for one in known or [present] if name in one]
        different = [value for i, value in enumerate(values) if value not in values[:i]]
        parts[name] = different[0] if len(different) == 1 else different
    return parts


def _device(read: ReadRecipe, stages: Sequence[Stage]) -> dict[str, Any]:
    """The device of the evaluated models: as recorded in the results, else as this process would choose.

    Steps that train and label record none: `machine` has the GPUs that they saw.
    """
    import torch

    recorded = sorted({str(device) for run in _own_entries(stages) if (device := run.get("device"))})
    chosen = read.recipe.models.device or ("cuda" if torch.cuda.is_available() else "cpu")
    used = recorded or [chosen]
    return {"used": used if len(used) > 1 else used[0]}


def _own_entries(stages: Sequence[Stage], with_adapter: bool = True) -> list[dict[str, Any]]:
    """What our backends wrote about themselves into the results that are there.

    Args:
        stages: of the recipe.
        with_adapter: whether runs of a student with an adapter count, which is another model.
    """
    configs = [results.get("config", {}) for results in _results(stages).values()]
    chosen = [one for one in configs if with_adapter or "peft" not in str(one.get("model_args"))]
    return [one.get("s2t_eval", {}) for one in chosen]


def _results(stages: Sequence[Stage]) -> dict[str, dict[str, Any]]:
    """Stage -> its results file."""
    results = {}
    for stage in stages:
        files = sorted(stage.output.rglob("results_*.json")) if stage.kind == EVALUATE else []
        if files:
            try:
                results[stage.name] = json.loads(files[-1].read_text(encoding="utf-8"))
            except ValueError:
                continue  # cut off by a kill: the stage is not done, and will run again
    return results


def _models(read: ReadRecipe, stages: Sequence[Stage]) -> dict[str, Any]:
    models = read.recipe.models
    entries = _own_entries(stages, with_adapter=False)
    models_by_role = {}
    for role in ("student", "teacher"):
        name = getattr(models, role)
        if name is None:
            continue
        revision = getattr(models, f"{role}_revision")
        files = model_hash(name, revision)
        models_by_role[role] = {
            "name": name,
            "revision": revision,
            "files": files,
            "fingerprints": _fingerprints(_place(role, name, stages), entries),
        }
    return models_by_role


def _place(role: str, name: str, stages: Sequence[Stage]) -> str:
    """What a model is called on the command lines: its name, its folder, or that of its download."""
    downloads = [stage.output for stage in stages if stage.name == f"download.{role}"]
    return str(downloads[0]) if downloads else name_on_command_lines(name)


def _fingerprints(place: str, entries: Sequence[dict[str, Any]]) -> list[str]:
    """Fingerprints of a model in the results; several where its weights changed in between.

    Args:
        place: what the model is called on the command lines.
        entries: what our backends wrote about themselves.
    """
    named = [(entry.get("pretrained"), entry.get("student")) for entry in entries]
    named += [(entry.get("teacher_name"), entry.get("teacher")) for entry in entries]
    return sorted({str(fingerprint) for name, fingerprint in named if fingerprint and name == place})


def _data(stages: Sequence[Stage]) -> dict[str, Any]:
    """Task -> hash of its local data, and the harness's hash over the documents that were evaluated."""
    hashes: dict[str, Any] = {}
    for task in sorted({task for stage in stages for task in stage.tasks}):
        hashes[task] = {"files": data_identity(task), "task_hashes": []}
    for results in _results(stages).values():
        for task, value in (results.get("task_hashes") or {}).items():
            known = hashes.setdefault(task, {"files": data_identity(task), "task_hashes": []})["task_hashes"]
            if value not in known:
                known.append(value)
    return hashes


def _artifacts(read: ReadRecipe, stages: Sequence[Stage]) -> dict[str, Any]:
    """What was collected, measured and trained: hash of its files, and fields of its own manifest."""
    artifacts = {}
    for stage in stages:
        if stage.kind in (EVALUATE, "scan", "analyze", "report", "keep") or not stage.output.exists():
            continue
        artifacts[stage.name] = {"hash": content_hash(stage.output), **_manifest_fields(stage.output)}
    labels = read.recipe.labels
    if labels is not None and labels.folder is not None:
        place = Path(labels.folder).expanduser()
        artifacts["labels"] = {
            "folder": labels.folder,
            "hash": content_hash(place),
            **_manifest_fields(place),
        }
    return artifacts


def _manifest_fields(place: Path) -> Mapping[str, Any]:
    """The fields of an artifact's own manifest that name models and data."""
    files = [place] if place.is_file() else [place / name for name in MANIFESTS]
    for file in files:
        if file.suffix == ".json" and file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            names = ("student", "teacher", "base", "labeller", "vocabulary", "data", "prompt")
            return {name: content[name] for name in names if name in content}
    return {}


def _step(stage: Stage, state: State) -> dict[str, Any]:
    record = state.read(stage.name)
    command = [Path(sys.executable).name, "-m", *stage.command]
    done = {"status": "not run"} if record is None else {
        "status": record.status, "seconds": round(record.seconds, 1), "output": record.output,
        "inputs": record.inputs,
    }  # fmt: skip
    return {"command": command, **done}
