"""Requests of `--cache_requests` are those of the present run, as its results describe it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.caching import cache
from lm_eval.tasks import TaskManager

from s2t_eval.model_wrappers.registration import TASK_FOLDER
from s2t_eval.model_wrappers.stock_tasks import serve_stock_tasks
from tests.harness_helpers import arith_docs, inline_task

serve_stock_tasks()
FEW = {"num_fewshot": 1, "fewshot_split": "test"}
REFRESH = "make them anew with --cache_requests refresh"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PATH", str(tmp_path))


def built(first: int = 0, repeats: int | None = None, options: Any = None, **config: Any) -> ConfigurableTask:
    """A task over problems from number `first` on, with requests from the cache where it has some."""
    metadata = {} if repeats is None else {"repeats": repeats}
    manager = TaskManager(include_path=str(TASK_FOLDER), include_defaults=False, metadata=metadata)
    config = inline_task("cached", arith_docs(8)[first:], **config)
    task: ConfigurableTask = manager.load([config])["tasks"]["cached"]
    task.set_fewshot_seed(1234)
    task.build_all_requests(cache_requests=True, tokenizer_name="none", **(options or {}))
    return task


def test_repeats_and_generation_arguments_are_those_of_the_run() -> None:
    """`--metadata '{"repeats": 8}'` had no effect on cached requests, and the results recorded it as used."""
    assert {instance.repeats for instance in built().instances} == {1}
    drawn = {"until": ["."], "do_sample": True, "temperature": 0.5, "max_gen_toks": 9}
    task = built(repeats=8, generation_kwargs=drawn)
    assert {instance.repeats for instance in task.instances} == {8}
    assert all(instance.args[1] == task.config.generation_kwargs for instance in task.instances)
    assert task.instances[0].args[1]["temperature"] == 0.5


@pytest.mark.parametrize("config", [{}, FEW])
def test_requests_of_the_same_run_are_taken_from_the_cache(config: dict[str, Any]) -> None:
    prompts = [[instance.args[0] for instance in built(**config).instances] for _ in range(2)]
    limited = built(options={"limit": 3}, **config)
    assert prompts[0] == prompts[1]
    assert [instance.args[0] for instance in limited.instances] == prompts[0][:3]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"first": 1}, "for other problems"),
        ({"options": {"samples": [2, 5]}}, "for other problems"),
        ({"description": "Be brief. "}, "with another prompt"),
        ({"doc_to_text": "Q: {{question}}"}, "with another prompt"),
    ],
)
def test_requests_of_another_run_are_refused(change: dict[str, Any], what: str) -> None:
    built()
    with pytest.raises(ValueError, match=rf"^task cached: --cache_requests has .*{what}.*; {REFRESH}$"):
        built(**change)
    options = {"rewrite_requests_cache": True, **change.pop("options", {})}
    built(options=options, **change)
    with pytest.raises(ValueError, match=REFRESH):
        built()


def test_examples_of_another_seed_are_refused() -> None:
    built(**FEW)
    task = built(**FEW)
    task.set_fewshot_seed(5)
    with pytest.raises(ValueError, match="with another prompt"):
        task.build_all_requests(cache_requests=True, tokenizer_name="none")
