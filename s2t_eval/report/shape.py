"""The shape that results files and traces must have; anything else is refused with the name of the entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from s2t_eval.artifacts.typed_json import conform

Objects = dict[str, dict[str, Any]]
RESULTS: dict[str, Any] = {
    "results": Objects,
    "configs": Objects,
    "config": dict[str, Any],
    "n-samples": dict[str, dict[str, int]],
}
"""Entries of a results file, as lm_eval writes it."""

OPTIONAL: dict[str, Any] = {
    "versions": dict[str, Any],
    "higher_is_better": dict[str, dict[str, Any] | None],
    "group_subtasks": dict[str, list[str]],
    "task_hashes": dict[str, str | None],
    "documents": dict[str, list[str]],
    "n-shot": dict[str, Any],
    "date": float,
}
BACKEND_INFO: dict[str, Any] = {
    "telemetry": dict[str, float | None],
    "policy": dict[str, Any],
    "sampling": dict[str, Any],
    "commit": str,
    "code": str,
    "device": str,
    "dtype": str,
    "version": str,
    "teacher_parameters": int,
    "teacher_dtype": str,
    "teacher_device": str,
    "steps_at_once": int,
    "tau": float,
    "seed": int,
    "pretrained": str,
    "student": str,
    "teacher": str,
    "teacher_name": str,
    "proposer": str,
    "selector": str,
    "adapter_scale": float,
    "search": dict[str, Any],
    "distilled": dict[str, Any],
    "servers": dict[str, Any],
    "prompt_hashes": dict[str, str],
    "router": str,
    "step_score": str,
    "accept": float,
    "accept_rate": float,
}
"""Entries that the backends of s2t-eval add to the results; each may be missing, or null."""
POLICY: dict[str, Any] = {
    "trigger": dict[str, Any],
    "top_k": int,
    "threshold": float | Literal["inf", "-inf"],
    "warmup": int,
    "proposal_weight": float,
}


SAMPLING: dict[str, Any] = {"num_samples": int, "weight": str}


def require_results(content: dict[str, Any]) -> None:
    """Raise `ValueError` that names the first entry of a results file that is not as lm_eval writes it."""
    missing = [name for name in RESULTS if name not in content]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    for name, hint in RESULTS.items():
        conform(content[name], hint, name)
    _require_known(content, OPTIONAL, "")
    config = content["config"]
    conform(config.get("model_args"), str | dict[str, Any] | None, "config.model_args")
    info = conform(config.get("s2t_eval", {}), dict[str, Any], "config.s2t_eval")
    _require_known(info, BACKEND_INFO, "config.s2t_eval.")
    policy = info.get("policy") or {}
    _require_known(policy, POLICY, "config.s2t_eval.policy.")
    _require_known(info.get("sampling") or {}, SAMPLING, "config.s2t_eval.sampling.")
    for task, settings in content["configs"].items():
        name = f"configs.{task}.generation_kwargs"
        conform(settings.get("generation_kwargs"), dict[str, Any] | None, name)
        conform(settings.get("repeats"), int | None, f"configs.{task}.repeats")
    for task, figures in content["results"].items():
        for figure, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                _require_float(value, f"results.{task}.{figure}")


def _require_known(content: dict[str, Any], hints: dict[str, Any], prefix: str) -> None:
    for name, hint in hints.items():
        if content.get(name) is not None:
            conform(content[name], hint, f"{prefix}{name}")


def _require_float(value: float, name: str) -> None:
    try:
        float(value)
    except OverflowError as error:
        raise ValueError(f"{name}: the number is too large") from error


TRACE: dict[str, Any] = {
    "task": str,
    "doc_id": int,
    "method": str,
    "prompt_ids": list[int],
    "output_ids": list[int],
    "steps": list[dict[str, Any]],
}
OF_SOME_TRACES: dict[str, Any] = {
    "trigger": str,
    "threshold": float | Literal["inf", "-inf"],
    "sample": int,
    "finish": str,
}
STEP: dict[str, Any] = {
    "t": int,
    "candidates": list[int],
    "scores": list[float],
    "greedy": int,
    "picked": int,
    "divergence": float | None,
}
OF_SOME_STEPS: dict[str, Any] = {"teacher": int, "teacher_probs": list[float]}


def require_trace(record: Any) -> None:
    """Raise `ValueError` that names an entry which a line of a trace lacks, or which has another type."""
    if not isinstance(record, dict):
        raise ValueError("expected a JSON object")
    missing = [name for name in TRACE if name not in record]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    for name, hint in TRACE.items():
        conform(record[name], hint, name)
    _require_known(record, OF_SOME_TRACES, "")
    if record.get("trigger") not in (None, "never") and record.get("threshold") is None:
        raise ValueError("it has no threshold")
    _require_tokens([*record["prompt_ids"], *record["output_ids"]], "")
    for number, step in enumerate(record["steps"]):
        lacking = [name for name in STEP if name not in step]
        if lacking:
            raise ValueError(f"steps.{number}: it has no {', '.join(lacking)}")
        for name, hint in STEP.items():
            conform(step[name], hint, f"steps.{number}.{name}")
        _require_known(step, OF_SOME_STEPS, f"steps.{number}.")
        _require_tokens([*step["candidates"], step["greedy"], step["picked"]], f"steps.{number}: ")
        if len(step["scores"]) != len(step["candidates"]) or not 0 <= step["t"] < len(record["output_ids"]):
            raise ValueError(f"steps.{number}: its scores, candidates and t are inconsistent")


def _require_tokens(ids: Sequence[int], where: str) -> None:
    """Raise `ValueError` for a token id that no tokenizer has."""
    if ids and not 0 <= min(ids) <= max(ids) < 2**31:
        raise ValueError(f"{where}expected token ids from 0 on, got {min(ids)} to {max(ids)}")
