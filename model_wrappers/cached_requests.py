"""Requests of the harness's `--cache_requests`, whose key lacks much of what they depend on.

The key has neither repeats nor generation arguments nor the problems, and of the prompt little more than
whether a template is applied. The results name the present settings, whatever the cached requests had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from s2t_eval.method_table import GENERATED


def with_current_requests(
    task: ConfigurableTask, build: Callable[[], None], options: Mapping[str, Any]
) -> None:
    """Build a task's requests; those from the cache get the task's present settings, or are refused.

    Args:
        task: the task.
        build: builds its requests, from the cache or anew.
        options: the arguments of `Task.build_all_requests`.

    Raises:
        ValueError: cached requests of other problems or with other prompts.
    """
    rnd = getattr(getattr(task, "sampler", None), "rnd", None)
    before = None if rnd is None else rnd.getstate()
    build()
    _require_documents(task, options)
    after = None if rnd is None else rnd.getstate()
    if rnd is not None:
        rnd.setstate(before)  # examples of the first problem are drawn first
    _require_prompt(task, options)
    if rnd is not None:
        rnd.setstate(after)
    for instance in task.instances:
        instance.repeats = task.config.repeats
        if task.OUTPUT_TYPE == GENERATED:
            prompt, _, *more = instance.args
            instance.arguments = (prompt, deepcopy(task.config.generation_kwargs), *more)


def _require_documents(task: ConfigurableTask, options: Mapping[str, Any]) -> None:
    chosen = {name: options[name] for name in ("rank", "world_size", "samples") if name in options}
    expected = dict(task.doc_iterator(**chosen))
    docs = {instance.doc_id: instance.doc for instance in task.instances}
    limit = options.get("limit")
    count = len(expected) if limit is None else min(limit, len(expected))
    if len(docs) != count or any(
        number not in expected or docs[number] != expected[number] for number in docs
    ):
        raise _stale(task, "for other problems (other data or --samples)")


def _require_prompt(task: ConfigurableTask, options: Mapping[str, Any]) -> None:
    """Compare the requests of the first problem with those that are made of it now."""
    first = task.instances[0]
    names = ("system_instruction", "apply_chat_template", "fewshot_as_multiturn", "chat_template")
    given = {name: options[name] for name in names if name in options}
    context = task.fewshot_context(
        first.doc, task.config.num_fewshot or 0, gen_prefix=task.doc_to_prefix(first.doc), **given
    )
    made = task.construct_requests(
        doc=first.doc,
        ctx=context,
        metadata=(task.config.task, first.doc_id, task.config.repeats),
        apply_chat_template=bool(options.get("apply_chat_template")),
        chat_template=options.get("chat_template"),
    )
    expected = made if isinstance(made, list) else [made]
    actual = task.instances[: len(expected)]
    if [_inputs(task, instance) for instance in actual] != [_inputs(task, instance) for instance in expected]:
        raise _stale(task, "with another prompt")


def _inputs(task: ConfigurableTask, instance: Instance) -> object:
    """What a model reads of a request: without the generation arguments."""
    return instance.args[0] if task.OUTPUT_TYPE == GENERATED else instance.args


def _stale(task: ConfigurableTask, what: str) -> ValueError:
    return ValueError(
        f"task {task.config.task}: --cache_requests has its requests {what} than this run; make them anew "
        "with --cache_requests refresh"
    )
