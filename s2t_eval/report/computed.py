"""What a results file says was computed: equal for two runs of one thing, different for any others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from s2t_eval.report.documents import short_hash
from s2t_eval.report.json_files import part_of

RECORDS = frozenset(
    """version commit code device packages teacher_parameters scorer_parameters steps_at_once batch_size
    telemetry prompt_hashes plain_likelihoods adapted_likelihoods versions teacher_device""".split()
)
"""Entries of `config.s2t_eval` that say how, where and at which cost; `versions` are those of servers. The
prompts are compared for each task alone; `plain_likelihoods` and `adapted_likelihoods` name tasks of
the whole file."""
RESOLVED = {
    "pretrained": "student",
    "teacher_name": "teacher",
    "tah": "tah_hash",
    "base_name": "base",
}
"""A name -> the hash of what it names, beside which the name does not matter: models may be moved."""
NO_HASH = (None, "unknown")
"""In place of the hash of a model whose weights are on a server."""
ROUNDING = ("attn_implementation", "softmax_dtype", "mixed_precision_dtype", "compile")
"""Arguments of a model that may change a text by rounding, which `config.s2t_eval` does not contain."""
HF_RECORDS = ("device", "batch_size", "max_batch_size")
LOADED = ("model_dtype", "model_revision", "model_sha", "peft_sha")
"""Entries of stock `hf` on the model that it loaded."""


def model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the model, which lm_eval records as text or as an object."""
    arguments = config.get("model_args") or {}
    if isinstance(arguments, str):
        return dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    return dict(arguments)


def computed(results: Mapping[str, Any], tasks: Sequence[str], documents: pd.DataFrame | None) -> str:
    """A hash over models, method with all of its settings, dtype, prompts and limits of new tokens.

    Args:
        results: the results file.
        tasks: the task, or those of a group.
        documents: of the run; None where no samples were kept.
    """
    config = results["config"]
    arguments = model_arguments(config)
    info = part_of(config, "s2t_eval")
    if info:
        models = {
            "dtype": config.get("model_dtype"),  # earlier results have it there alone
            **_described(info),
            "rounding": {name: str(arguments[name]) for name in ROUNDING if name in arguments},
        }
    else:
        models = {name: config.get(name) for name in LOADED}
        models |= {name: str(value) for name, value in arguments.items() if name not in HF_RECORDS}
    limits = [part_of(part_of(results["configs"], task), "generation_kwargs") for task in tasks]
    content = [models, limits, _prompts(results, tasks, documents)]
    return short_hash(json.dumps(content, sort_keys=True, default=str))


def _described(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are no records, at every depth, without names of what has a hash and without nulls."""
    kept = {}
    for name, value in info.items():
        is_resolved = name in RESOLVED and info.get(RESOLVED[name]) not in NO_HASH
        if value is None or name in RECORDS or is_resolved:
            continue
        kept[name] = _described(value) if isinstance(value, dict) else value
    return kept


def _prompts(results: Mapping[str, Any], tasks: Sequence[str], documents: pd.DataFrame | None) -> object:
    """What tells the prompts of these tasks from others: the first record that the results have of them."""
    hashes = part_of(part_of(results["config"], "s2t_eval"), "prompt_hashes")
    if all(hashes.get(task) for task in tasks):
        return [hashes[task] for task in tasks]
    if documents is not None:
        return sorted(zip(documents["doc_hash"], documents["prompt_hash"], strict=True))
    task_hashes = part_of(results, "task_hashes")
    if all(task_hashes.get(task) for task in tasks):
        return [task_hashes[task] for task in tasks]
    names = ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn")
    shots = part_of(results, "n-shot")
    return [*(results.get(name) for name in names), *(shots.get(task) for task in tasks)]
