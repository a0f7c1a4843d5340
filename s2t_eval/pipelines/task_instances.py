"""The harness's requests of a task's training problems, made as lm_eval makes those of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.pipelines.settings import Prompting

FEWSHOT_SEED = 1234
"""lm_eval's own; the seed of a problem's examples is the sum of this and its index."""


def task_instances(
    lm: EngineLM,
    task: Task,
    name: str,
    docs: Sequence[dict[str, Any]],
    indices: Sequence[int],
    prompting: Prompting,
    instructions: Sequence[str | None],
) -> list[Instance]:
    """The task's requests of these problems, as lm_eval makes them.

    Examples before a problem depend on its index in the split alone, and it is never one of them.

    Args:
        lm: the model, for its chat template.
        task: the task.
        name: its name.
        docs: the problems.
        indices: their indices in the split.
        prompting: how prompts are made.
        instructions: each problem's system instruction, in place of that of `prompting`.
    """
    chat = {
        "apply_chat_template": prompting.apply_chat_template,
        "chat_template": lm.apply_chat_template if prompting.apply_chat_template else None,
    }
    instances = []
    for i, (doc, index, instruction) in enumerate(zip(docs, indices, instructions, strict=True)):
        task.set_fewshot_seed(seed=FEWSHOT_SEED + index)
        with _never_an_example(task, doc):
            context = task.fewshot_context(
                doc,
                prompting.num_fewshot,
                instruction,
                # lm_eval's own default where prompts go through a chat template
                fewshot_as_multiturn=prompting.apply_chat_template,
                gen_prefix=task.doc_to_prefix(doc),
                **chat,
            )
        instances.append(task.construct_requests(doc=doc, ctx=context, metadata=(name, i, 1), **chat))
    return instances


@contextmanager
def _never_an_example(task: Any, doc: dict[str, Any]) -> Iterator[None]:
    """Meanwhile the task's sampler draws again where it drew this problem, whose solution it would show.

    lm_eval leaves a problem out of its own examples where they come from the split that is evaluated. The
    problems here are of the training split, from which they usually come.
    """
    sampler = getattr(task, "sampler", None)
    if sampler is None:
        yield
        return
    plain = sampler.sample

    def sample(n: int, eval_doc: dict[str, Any] | None = None, **more: Any) -> Sequence[dict[str, Any]]:
        drawn: Sequence[dict[str, Any]] = plain(n=n, eval_doc=eval_doc, **more)
        return plain(n=n, eval_doc=doc, **more) if doc in drawn else drawn

    sampler.sample = sample
    try:
        yield
    finally:
        del sampler.sample
