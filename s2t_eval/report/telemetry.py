"""The costs of a run, as its backend counted them, or nothing where they are incomplete."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from s2t_eval.method_table import GENERATED
from s2t_eval.report.json_files import part_of


def run_cost(file: Path, results: dict[str, Any]) -> dict[str, Any]:
    """The telemetry of a results file, summed over all of its tasks.

    Telemetry that counts fewer texts than were evaluated is incomplete (a resumed run of an earlier version).
    It is left out, with a notice on standard error.

    Args:
        file: the results file, for the notice.
        results: its content.

    Returns:
        The entries of `model_wrappers.telemetry`; empty for other backends and for incomplete telemetry.
    """
    backend_info = part_of(results["config"], "s2t_eval")
    # A rate of nothing is null: it is unknown, as if it were not there.
    cost = {name: value for name, value in part_of(backend_info, "telemetry").items() if value is not None}
    samples = part_of(backend_info, "sampling").get("num_samples") or 1
    expected = samples * sum(n * repeats for n, repeats in generated_tasks(results).values())
    texts = cost.get("texts", expected)
    if texts >= expected:
        return cost
    print(
        f"note: {file}: its costs are unknown: they count {texts} of {expected} texts, the others came from "
        "a cache; run it again with another cache",
        file=sys.stderr,
    )
    return {}


def generated_tasks(results: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Task -> its documents and repeats, for the tasks whose answers are generated: what telemetry counts.

    The answers of other tasks (`multiple_choice`, `loglikelihood`) are scored, not decoded.
    """
    counts = results["n-samples"]
    return {
        task: (int(part_of(counts, task).get("effective", 0)), int(config.get("repeats") or 1))
        for task, config in results["configs"].items()
        if config.get("output_type") == GENERATED
    }
