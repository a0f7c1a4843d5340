"""The costs of a run, as its backend counted them, or nothing where they are incomplete."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


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
    backend_info = results["config"].get("s2t_eval", {})
    cost: dict[str, Any] = backend_info.get("telemetry", {})
    samples = backend_info.get("sampling", {}).get("num_samples", 1)
    expected = sum(
        int(results["n-samples"].get(task, {}).get("effective", 0))
        * int(config.get("repeats") or 1)
        * samples
        for task, config in results["configs"].items()
        if config.get("output_type") == "generate_until"
    )
    texts = cost.get("texts", expected)
    if texts >= expected:
        return cost
    print(
        f"note: {file}: its costs are unknown: they count {texts} of {expected} texts, the others came from "
        "a cache; run it again with another cache",
        file=sys.stderr,
    )
    return {}
