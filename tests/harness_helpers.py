"""Helpers that run the backends through lm_eval, and models created for a test."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lm_eval
import pytest
import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.registration import TASK_FOLDER
from tests.environment import as_installed

STUDENT, TEACHER = "embedded/student", "embedded/teacher"
LIMIT = 6
BIN = Path(sys.executable).parent

Results = dict[str, Any]


@functools.cache
def task_manager() -> TaskManager:
    """A task manager with this package's tasks only: scanning lm_eval's 14,000 takes seconds."""
    return TaskManager(include_path=str(TASK_FOLDER), include_defaults=False)


@functools.cache
def arith_task() -> Task:
    """The task s2t_arith, cached: creating its 4,000 training problems takes half a second."""
    task: Task = task_manager().load(["s2t_arith"])["tasks"]["s2t_arith"]
    return task


def evaluate(
    model: str | EngineLM,
    model_args: dict[str, Any] | str | None = None,
    tasks: Sequence[Any] = ("s2t_arith",),
    limit: int = LIMIT,
    batch_size: int = 16,
    **options: Any,
) -> Results:
    """Run `lm_eval.simple_evaluate` on the first problems; the student is the default model."""
    if isinstance(model, str) and not isinstance(model_args, str):
        student = str(embedded_path(STUDENT)) if model == "hf" else STUDENT
        model_args = {"pretrained": student, "device": "cpu", **(model_args or {})}
    # Generation arguments are written into a task, so only a run without them shares one.
    share = "gen_kwargs" not in options
    # The description of the machine asks pip for a list of packages, a second each time.
    with patch("lm_eval.evaluator.add_env_info"):
        results = lm_eval.simple_evaluate(
            model=model,
            model_args=model_args,
            tasks=[arith_task() if share and task == "s2t_arith" else task for task in tasks],
            limit=limit,
            batch_size=batch_size,
            task_manager=task_manager(),
            bootstrap_iters=0,
            **options,
        )
    assert results is not None
    return results


@functools.cache
def plain_run(model: str, batch_size: int = 16, **model_args: Any) -> Results:
    """`evaluate`, cached for several tests; the result must not be modified."""
    if model != "greedy" and model != "hf" and not model.startswith("maj"):
        model_args = {"teacher": TEACHER, **model_args}
    return evaluate(model, model_args, batch_size=batch_size)


def texts(results: Results, task: str = "s2t_arith") -> list[Any]:
    """The generated texts in the order of the documents; lists if requests are repeated."""
    # Each filter of a task has samples of its own, with the same responses.
    found = {int(sample["doc_id"]): sample["resps"][0] for sample in results["samples"][task]}
    return [resps[0] if len(resps) == 1 else resps for _, resps in sorted(found.items())]


def ours(results: Results) -> dict[str, Any]:
    """The entry of this package in the results file."""
    entry: dict[str, Any] = results["config"]["s2t_eval"]
    return entry


def counts(results: Results) -> dict[str, Any]:
    """The costs of the run."""
    report: dict[str, Any] = ours(results)["telemetry"]
    return report


def prompts(count: int = LIMIT) -> list[str]:
    """The task's first prompts."""
    return [format_prompt(problem.question) for problem in make_split("test")[:count]]


def generation(
    prompt: str, doc_id: int = 0, task: str = "asked", repeats: int = 1, **options: Any
) -> Instance:
    """A request in the form that a task creates."""
    options = {"until": ["\n\n"], "max_gen_toks": 48, **options}
    return Instance("generate_until", {}, (prompt, options), 0, (task, doc_id, repeats))


def inline_task(name: str, docs: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
    """The configuration of a generation task, by default with the settings of `s2t_arith`."""
    return {
        "task": name,
        "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)},
        "output_type": "generate_until",
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\n", "Question:"], "do_sample": False, "max_gen_toks": 64},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **config,
    }


def arith_docs(count: int) -> list[dict[str, Any]]:
    """Documents of the embedded pair's task."""
    problems = make_split("test")[:count]
    return [{"question": p.question, "answer": str(p.answer)} for p in problems]


# ---------------------------------------------------------------- models


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the embedded pair."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(embedded_path(STUDENT))
    return loaded


@functools.cache
def model(name: str) -> PreTrainedModel:
    """A model of the embedded pair, loaded with transformers only."""
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(embedded_path(name), dtype="float32")
    return loaded.eval()


def student_copy(folder: Path) -> Path:
    """A copy of the student's folder that a test may damage."""
    shutil.copytree(embedded_path(STUDENT), folder)
    return folder


def tiny_folder(folder: Path, seed: int = 0, vocab_size: int | None = None, **changes: Any) -> Path:
    """A random model with the embedded tokenizer; its vocabulary may be padded.

    As the embedded pair a Llama: transformers gives a Qwen2 folder's tokenizer one more token.
    """
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "eos_token_id": tokenizer().eos_token_id,
        "bos_token_id": None,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    config = LlamaConfig(vocab_size=vocab_size or len(tokenizer()), **(shape | changes))
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def logits_after(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Logits [vocab] in float64 after a text, computed without a cache."""
    logits: torch.Tensor = model(torch.tensor([list(ids)])).logits[0, -1].double()
    return logits


@torch.no_grad()
def generate(model: PreTrainedModel, ids: Sequence[int], max_new_tokens: int, **options: Any) -> list[int]:
    """Greedy generation with transformers."""
    inputs = torch.tensor([list(ids)])
    output = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    generated: list[int] = output[0, inputs.shape[1] :].tolist()
    return generated


# ---------------------------------------------------------------- files and processes


def shared_data(*names: str) -> Path:
    """The folder of the benchmarks' data; the calling test is skipped where it or a folder in it is missing.

    `S2T_DATA`, laid out as docs/guides/offline-data.md describes, or `shared/data` beside the checkout.

    Args:
        *names: folders of the data sets that the test reads.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("S2T_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"the benchmarks' data are not at {folder}; set S2T_DATA to their folder")
    for name in names:
        if not (folder / name).is_dir():
            pytest.skip(f"the benchmarks' data in {folder} have no folder {name}")
    return folder


def shared_records(folder: str, file: str = "test.jsonl") -> list[dict[str, Any]]:
    """The records of a data set's file of JSON lines; the calling test is skipped where there is none.

    Args:
        folder: folder of the data set below `shared_data`. The file may be in a folder of it, as in a copy of
            GSM8k from the Hub, which has a folder `main`.
        file: name of the file.
    """
    place = shared_data(folder) / folder
    paths = sorted(place.rglob(file))
    if not paths:
        pytest.skip(f"the benchmarks' data have no {file} in {place}")
    return [json.loads(line) for line in paths[0].read_text(encoding="utf-8").split("\n") if line]


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The records of a trace; every line must be standard JSON, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # not splitlines: see json_lines
    return [json.loads(line, parse_constant=refuse) for line in lines]


@contextmanager
def only_built_in_task(folder: Path) -> Iterator[None]:
    """Replace lm_eval's tasks by a folder with one task, for code that creates a `TaskManager`."""
    import lm_eval.tasks.manager as manager

    folder.mkdir()
    (folder / "stock.yaml").write_text("task: stock\n")
    before = manager.__file__
    manager.__file__ = str(folder / "manager.py")
    try:
        yield
    finally:
        manager.__file__ = before


def run_command(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside the repository."""
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=as_installed(**{**offline, **environment}),
        capture_output=True,
        text=True,
        timeout=300,
    )
