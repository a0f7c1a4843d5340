"""Corrections of stock tasks, so that they run with our backends and without a network.

Stock tasks with code (`humaneval`, `mbpp` and their variants) fetch the metric `code_eval` from the hub and
run generated code without isolation; here they get one that runs it in our sandbox. Stock `mmlu_pro` reads
its examples' split even in a run without examples; here only a run with examples needs it. And the
harness's command line has no flag for a task's `repeats`: `--metadata '{"repeats": 8}'` sets them.
Requests of `--cache_requests` are compared with the present run (`cached_requests.py`), and the documents of
`--samples` have their own numbers (`chosen_documents.py`).
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import evaluate
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask, Task

from s2t_eval.evaluation.grading.estimators import pass_at_k
from s2t_eval.evaluation.sandbox import Program, ProgramVerdict, are_separable, run_programs
from s2t_eval.model_wrappers.argument_checks import require_int
from s2t_eval.model_wrappers.cached_requests import with_current_requests
from s2t_eval.model_wrappers.chosen_documents import in_order_of_data

logger = logging.getLogger(__name__)


class SandboxedCodeEval:
    """The metric `code_eval` with the interface of stock; programs run in our sandbox.

    Checks that only call a program's functions run in a sandbox of their own, as those of `s2t_humaneval`.
    Others use what only the program's process has, such as a module that the program imports
    (`assert math.isclose(f(1), 2)`), and run there, as stock runs all checks.

    As in stock, `HF_ALLOW_CODE_EVAL=1` is required.
    """

    def compute(
        self,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 10, 100),
        **_options: Any,
    ) -> tuple[dict[str, float], dict[int, list[dict[str, Any]]]]:
        """pass@k over problems, for each k with enough candidates, and each candidate's verdict.

        A candidate has no verdict if its sandbox could not be started or was killed, or if the checks import
        a module that the sandbox does not have; it is excluded. With too few remaining candidates the figure
        is NaN, which a mean does not hide, and never 0.

        Raises:
            ValueError: running generated code is not allowed.
            SandboxUnavailableError: nothing to run it in.
        """
        if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise ValueError(
                "code_eval runs generated code; set HF_ALLOW_CODE_EVAL=1 to allow it (it will run in "
                "s2t_eval's sandbox)"
            )
        programs = [
            Program(source, checks, shares_process=shares_process)
            for checks, sources in zip(references, predictions, strict=True)
            for shares_process in [not are_separable(checks)]
            for source in sources
        ]
        verdicts = iter(_judge(programs))
        results: dict[int, list[dict[str, Any]]] = {}
        for task, sources in enumerate(predictions):
            results[task] = [next(verdicts).as_json() for _ in sources]
        for verdict in (verdict for candidates in results.values() for verdict in candidates):
            if verdict["passed"] is None:
                logger.warning("code_eval: a candidate without a verdict is excluded: %s", verdict["reason"])
        means = {
            f"pass@{size}": sum(_pass_at_k(candidates, size) for candidates in results.values())
            / len(results)
            for size in k
            if results and all(len(candidates) >= size for candidates in results.values())
        }
        return means, results


def _judge(programs: Sequence[Program]) -> list[ProgramVerdict]:
    """Run programs; checks that turn out to need the program's process, for an argument of theirs, get it."""
    verdicts = run_programs(programs)
    again = [i for i, verdict in enumerate(verdicts) if verdict.is_uncheckable]
    again = [i for i in again if not programs[i].shares_process]
    together = [replace(programs[i], shares_process=True) for i in again]
    for index, verdict in zip(again, run_programs(together), strict=True):
        verdicts[index] = verdict
    if together or any(program.shares_process for program in programs):
        _report_shared_processes()
    return verdicts


@functools.cache
def _report_shared_processes() -> None:
    logger.warning(
        "code_eval: some checks of this task use more of a program than the results of its functions. They "
        "run in the program's process, as in stock: a program that is written to deceive them could pass"
    )


def _pass_at_k(candidates: list[dict[str, Any]], k: int) -> float:
    graded = [item["passed"] for item in candidates if item["passed"] is not None]
    return pass_at_k(len(graded), sum(graded), k) if len(graded) >= k else math.nan


def serve_stock_tasks() -> None:
    """Apply the corrections. Calling it again changes nothing.

    Remove the first when stock's code tasks take a metric that is not fetched, the second when
    lm_eval reads the examples' split only for runs with examples.
    """
    if getattr(evaluate.load, "serves_code_eval", False):
        return
    evaluate.load = _with_code_eval(evaluate.load)
    ConfigurableTask.fewshot_docs = _allowing_missing_examples(ConfigurableTask.fewshot_docs)
    Task.build_all_requests = _with_corrections(Task.build_all_requests)


def _with_code_eval(load: Any) -> Any:
    @functools.wraps(load)
    def load_with_code_eval(path: str, *args: Any, **kwargs: Any) -> Any:
        return SandboxedCodeEval() if path == "code_eval" else load(path, *args, **kwargs)

    load_with_code_eval.serves_code_eval = True  # type: ignore[attr-defined]
    return load_with_code_eval


def _allowing_missing_examples(fewshot_docs: Any) -> Any:
    @functools.wraps(fewshot_docs)
    def docs_or_none(self: ConfigurableTask) -> Any:
        split = self.fewshot_cfg.split
        return [] if split is not None and split not in self.dataset else fewshot_docs(self)

    return docs_or_none


def _add_optional_metrics(task: Task) -> None:
    """Let the harness average the metrics of our scorers that depend on the number of responses.

    They are not added to `metric_list`, of which its logger for Weights & Biases reads every entry.
    """
    optional = getattr(task.config.process_results, "optional_metrics", None)
    if optional is None or not isinstance(task, ConfigurableTask):
        return
    for name, is_higher_better in optional(task.config.repeats or 1).items():
        task._aggregation_list.setdefault(name, mean)
        task._higher_is_better.setdefault(name, is_higher_better)


def _with_corrections(build: Any) -> Any:
    @functools.wraps(build)
    def build_corrected(self: Task, *args: Any, **kwargs: Any) -> None:
        if (repeats := (self.config.metadata or {}).get("repeats")) is not None:
            require_int("metadata repeats", repeats, 1)
            self.set_config("repeats", repeats)
        if kwargs.get("samples") is not None:
            in_order_of_data(str(self.config.task), kwargs["samples"], len(self.eval_docs))
        _add_optional_metrics(self)
        split = self.fewshot_cfg.split if isinstance(self, ConfigurableTask) else None
        if self.config.num_fewshot and split is not None and split not in self.dataset:
            raise ValueError(
                f"task {self.config.task}: its examples come from split {split!r}, which these data do "
                f"not have (they have {', '.join(map(repr, self.dataset))}); use --num_fewshot 0"
            )
        if kwargs.get("cache_requests") and isinstance(self, ConfigurableTask):
            with_current_requests(self, functools.partial(build, self, *args, **kwargs), kwargs)
        else:
            build(self, *args, **kwargs)

    return build_corrected
