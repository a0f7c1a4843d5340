"""The records of an evaluation: its costs, the prompts that it read, and its trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lm_eval.api.instance import Instance

from s2t_eval.artifacts.files import TraceWriter
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.engine import Result
from s2t_eval.model_wrappers.processes import SharedWork
from s2t_eval.model_wrappers.requests import origin_of
from s2t_eval.model_wrappers.telemetry import Telemetry, total_telemetry
from s2t_eval.model_wrappers.trace_lines import trace_line
from s2t_eval.selection.policy import Policy

Prompts = dict[str, dict[int, str]]
"""Task -> document -> prompt."""


class ProcessRecord(NamedTuple):
    """The records of one process."""

    telemetry: Telemetry
    prompts: Prompts


class RunRecords:
    """The records of a model's evaluation, which may be shared by several processes.

    Args:
        method: name of the backend's method, for the trace.
        telemetry: costs of this process, counted elsewhere.
        trace: file to write; None writes none.
        rank: of this process.
    """

    def __init__(self, method: str, telemetry: Telemetry, trace: str | None, rank: int) -> None:
        self._method = method
        self._telemetry = telemetry
        self._rank = rank
        self._trace = TraceWriter(Path(trace), rank) if trace else None
        self._prompts: Prompts = defaultdict(dict)
        self._processes: list[ProcessRecord] = []

    def begin(self, telemetry: Telemetry) -> None:
        """Begin a new evaluation of the same model: costs and prompts start anew, the trace goes on."""
        self._telemetry = telemetry
        self._prompts = defaultdict(dict)
        self._processes = []

    def add_prompts(self, instances: Iterable[Instance]) -> None:
        """Record the prompts of these requests."""
        for instance in instances:
            self._prompts[str(instance.task_name)][int(instance.doc_id or 0)] = instance.args[0]

    def write_trace(self, instance: Instance, result: Result, policy: Policy, **more: Any) -> None:
        """Write one line for a text, with everything that a replay of its selections needs."""
        if self._trace is None:
            return
        origin = origin_of(result.request)
        self._trace.write(
            {
                "task": instance.task_name,
                "doc_id": instance.doc_id,
                "repeat": origin.repeat,
                "sample": origin.sample,
                "method": self._method,
                **trace_line(result, policy),
                **more,
            }
        )

    def finish(self, work: SharedWork) -> None:
        """Complete the trace; the first of several processes collects the records of the others."""
        lines = self._trace.release_lines() if self._trace is not None and self._rank else []
        gathered = work.gather_object((ProcessRecord(self._telemetry, self._prompts), lines))
        if gathered is not None:
            self._processes = [record for record, _ in gathered]
            if self._trace is not None:
                self._trace.finish(line for _, others in gathered for line in others)
        work.wait()
        if self._trace is not None and self._rank:
            self._trace.discard()

    def report(self, devices: Collection[torch.device]) -> dict[str, Any]:
        """Hashes of the prompts of each task and the summed telemetry, for the results file.

        Args:
            devices: of the models of this process; see `peak_memory`.
        """
        processes = self._processes or [ProcessRecord(self._telemetry, self._prompts)]
        prompts: Prompts = defaultdict(dict)
        for process in processes:
            for task, by_document in process.prompts.items():
                prompts[task].update(by_document)
        return {
            "prompt_hashes": {
                task: data_hash(by_document[doc_id] for doc_id in sorted(by_document))
                for task, by_document in prompts.items()
            },
            "telemetry": total_telemetry([process.telemetry for process in processes]).report(devices),
        }
