"""What a task's filters make of responses, as lm_eval applies them after an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.method_table import GENERATED


class Answered(NamedTuple):
    """A document and the responses to it."""

    document: dict[str, Any]
    document_id: int
    responses: Sequence[GeneratedText]


def filtered_responses(task: Task, answered: Sequence[Answered]) -> list[dict[str, Any]]:
    """Filter name -> what it makes of a document's responses, for each document in order."""
    instances = []
    for one in answered:
        metadata = (task.config.task, one.document_id, len(one.responses))
        instance = Instance(GENERATED, one.document, ("", {}), 0, metadata)
        instance.resps = list(one.responses)
        instances.append(instance)
    task._instances = instances
    task.apply_filters()
    return [instance.filtered_resps for instance in instances]
