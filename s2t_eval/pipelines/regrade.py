"""Grades the texts of a run again, through the harness, with the graders that tasks have now."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.evaluation.grading import shared_grader
from s2t_eval.evaluation.sandbox import find_isolation
from s2t_eval.model_wrappers.harness_tasks import OUR_TASKS
from s2t_eval.model_wrappers.registration import own_task_manager
from s2t_eval.pipelines.task_filters import Answered, filtered_responses
from s2t_eval.report.kept_texts import KeptText
from s2t_eval.report.runs import NOT_SCORES, UNSCORED

OF_DATA = ("training_split", "validation_split", "fewshot_split", "process_docs", "description", "tag")
"""Settings of a task for its documents and prompts: regrading loads no documents and builds no prompts."""
SHOWN = 60


class RegradeError(ValueError):
    """Texts that cannot be graded again."""


@dataclass(frozen=True)
class RegradedText:
    """A document's old and new verdict.

    Args:
        text: the responses, with the old one.
        new: 1, 0 or a share; None where there is none.
        answer: the answer that the grader extracts from the first response.
    """

    text: KeptText
    new: float | None
    answer: str

    @property
    def is_changed(self) -> bool:
        """Whether the two differ."""
        return self.text.verdict != self.new

    @property
    def is_won(self) -> bool:
        """Whether it is better now."""
        return self.is_changed and (self.new or 0.0) > (self.text.verdict or 0.0)

    @property
    def is_lost(self) -> bool:
        """Whether it is worse now."""
        return self.is_changed and (self.new or 0.0) < (self.text.verdict or 0.0)

    def line(self) -> str:
        """A line for people."""
        old, new = ("none" if value is None else f"{value:g}" for value in (self.text.verdict, self.new))
        kind = "won" if self.is_won else "lost" if self.is_lost else "changed"
        expected = (
            f"expected {_shortened(str(self.text.doc['answer']))}, " if "answer" in self.text.doc else ""
        )
        end = _shortened(self.text.responses[0], from_end=True)
        return (
            f"document {self.text.doc_id}: {old} -> {new} ({kind}); {expected}"
            f"read {_shortened(self.answer)}, text ends {end}"
        )


def regrade(texts: Sequence[KeptText]) -> list[RegradedText]:
    """The verdicts of the present graders beside the old ones, in the order of the texts.

    Raises:
        RegradeError: a task that is not one of ours.
        SandboxUnavailableError: HumanEval, and nothing to run programs in.
        GraderBrokenError: the grader of expressions does not work.
    """
    verdict_at: dict[int, RegradedText] = {}
    for task in dict.fromkeys(text.task for text in texts):
        part = [(place, text) for place, text in enumerate(texts) if text.task == task]
        verdicts = _regrade_task(task, [text for _, text in part])
        verdict_at.update({place: verdict for (place, _), verdict in zip(part, verdicts, strict=True)})
    return [verdict_at[place] for place in range(len(texts))]


def _regrade_task(name: str, texts: Sequence[KeptText]) -> list[RegradedText]:
    if any("entry_point" in text.doc for text in texts):
        find_isolation()  # raises with its reason before anything is graded
    elif not name.startswith(OUR_TASKS + "arith"):
        shared_grader().check()
    task = load_grader(name, texts[:1])
    answered = [
        Answered(
            text.doc,
            text.doc_id,
            [GeneratedText(*response) for response in zip(text.responses, text.truncated, strict=True)],
        )
        for text in texts
    ]
    by_filter = filtered_responses(task, answered)
    return [_verdict(task, text, filtered) for text, filtered in zip(texts, by_filter, strict=True)]


def _verdict(task: Task, text: KeptText, by_filter: Mapping[str, Any]) -> RegradedText:
    metric, _, filter_name = text.metric.partition(",")
    if filter_name not in by_filter:
        raise RegradeError(
            f"{text.task}: it has no filter {filter_name!r} any more; its metric was {text.metric}"
        )
    filtered = by_filter[filter_name]
    figures = task.process_results(text.doc, [filtered])
    if metric == UNSCORED:  # of --predict_only: the task's own first score
        metric = next((name for name in figures if name not in NOT_SCORES), metric)
        text = replace(text, metric=f"{metric},{filter_name}")
    value = figures.get(metric)
    first = filtered[0] if isinstance(filtered, list) else filtered
    return RegradedText(text, None if value is None else float(value), str(first))


def load_grader(name: str, texts: Iterable[KeptText]) -> Task:
    """One of our tasks as it is now, over the documents of these texts instead of its data.

    Raises:
        RegradeError: another task.
    """
    entry = _manager().task_index.get(name) if name.startswith(OUR_TASKS) else None
    if entry is None or entry.yaml_path is None:
        raise RegradeError(
            f"task {name}: expected one of s2t-eval's own (s2t_*); others' graders may read more"
        )
    config: dict[str, Any] = {k: v for k, v in load_yaml(entry.yaml_path).items() if k not in OF_DATA}
    docs = [text.doc for text in texts]
    if callable(config.get("process_results")):
        config["doc_to_target"] = ""  # our scorers read the document itself
    config |= {
        "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)},
        "test_split": "test",
        "doc_to_text": "",
        "num_fewshot": 0,
    }
    task: Task = _manager().load([config])["tasks"][name]
    return task


@functools.cache
def _manager() -> TaskManager:
    return own_task_manager()


def _shortened(text: str, from_end: bool = False) -> str:
    if len(text) <= SHOWN:
        return repr(text)
    return f"…{text[-SHOWN:]!r}" if from_end else f"{text[:SHOWN]!r}…"
