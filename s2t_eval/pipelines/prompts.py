"""Training problems to calibrate on or to learn from, put to the model as the evaluation puts them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.engine import Request
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges

TEST_NAMES = ("test", "eval", "validation")
FILE_SUFFIXES = (".jsonl", ".json")
SPEC_FIELDS = re.compile(r":(?![^\[]*\])")
"""The colons of NAME:CONFIG:SPLIT, but not that of a slice such as train[:100]."""
QUESTION_FIELDS = ("question", "problem", "prompt")


class TrainingDataError(ValueError):
    """Problems that may not be calibrated on, or cannot be read."""


@dataclass(frozen=True)
class Prompting:
    """How problems are put to the model; evaluation must put them the same way.

    Args:
        system_instruction: text of the system turn.
        apply_chat_template: whether prompts go through the model's chat template.
        num_fewshot: worked examples before the problem (tasks only).
        max_gen_toks: length limit in tokens; None takes the task's.
    """

    system_instruction: str | None = None
    apply_chat_template: bool = False
    num_fewshot: int = 0
    max_gen_toks: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, num_fewshot=AT_LEAST_0, max_gen_toks=AT_LEAST_1)


@dataclass(frozen=True)
class PromptSet:
    """Training problems as the harness puts them, and the engine's request for each.

    Args:
        instances: the harness's requests, in the problems' order.
        requests: what the engine decodes for each of them.
        source: task or data set.
        split: of it.
        hash: of the problems' records.
        indices: of the problems in their split.
        task: that the problems are of; None for a data set.
    """

    instances: list[Instance]
    requests: list[Request]
    source: str
    split: str
    hash: str
    indices: list[int]
    task: Task | None = None

    @property
    def docs(self) -> list[dict[str, Any]]:
        """The problems' records."""
        return [instance.doc for instance in self.instances]

    @property
    def questions(self) -> list[str]:
        """Each problem's own question, or its whole prompt where the record names none."""
        return [first_text(i.doc, QUESTION_FIELDS) or str(i.args[0]) for i in self.instances]

    @property
    def names(self) -> list[str]:
        """A name of each problem: SOURCE/SPLIT/INDEX."""
        return [f"{self.source}/{self.split}/{index}" for index in self.indices]

    def without(self, left_out: Collection[int]) -> PromptSet:
        """The set without the problems of these indices; the hash is of what is left."""
        kept = [i for i in range(len(self.instances)) if i not in left_out]
        return replace(
            self,
            instances=[self.instances[i] for i in kept],
            requests=[self.requests[i] for i in kept],
            hash=data_hash([self.instances[i].doc for i in kept]),
            indices=[self.indices[i] for i in kept],
        )


@dataclass(frozen=True)
class Source:
    """Which problems: a harness task or a data set, and which part of it.

    Args:
        task: name of a task with a training split.
        data: where no task is named: see `data_prompts`.
        limit: how many problems.
        skip: how many are left out at the beginning.
    """

    task: str | None
    data: str | None
    limit: int
    skip: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, limit=AT_LEAST_1, skip=AT_LEAST_0)

    def prompts(self, lm: EngineLM, prompting: Prompting) -> PromptSet:
        """The problems, put to the model."""
        if self.task is not None:
            return task_prompts(lm, self.task, self.limit, prompting, self.skip)
        assert self.data is not None
        return data_prompts(lm, self.data, self.limit, prompting, self.skip)


def task_prompts(lm: EngineLM, name: str, limit: int, prompting: Prompting, skip: int = 0) -> PromptSet:
    """`limit` training problems of a harness task after the first `skip`, prompted as the task prompts.

    Raises:
        TrainingDataError: the task has no training split of its own.
    """
    try:
        task = TaskManager().load([name])["tasks"][name]
    except KeyError as error:
        raise TrainingDataError(
            f"--task {name}: lm_eval knows no single task of this name; `lm_eval ls tasks` lists them"
        ) from error
    split = task.config.training_split
    if not task.has_training_docs() or split in (
        task.config.test_split,
        task.config.validation_split,
    ):
        raise TrainingDataError(
            f"--task {name}: it has no training split beside the one it is scored on, and thresholds "
            "are never measured on a test split; calibrate on another data set with --data"
        )
    docs = list(itertools.islice(task.training_docs(), skip, skip + limit))
    if not docs:
        raise TrainingDataError(_nothing_left(f"--task {name}", skip, len(list(task.training_docs()))))
    if prompting.max_gen_toks is not None:
        update = {"max_gen_toks": prompting.max_gen_toks}
        task.set_config(key="generation_kwargs", value=update, update=True)
    chat = {
        "apply_chat_template": prompting.apply_chat_template,
        "chat_template": lm.apply_chat_template if prompting.apply_chat_template else None,
    }
    task.set_fewshot_seed(seed=1234)
    instances = []
    for i, doc in enumerate(docs):
        context = task.fewshot_context(doc, prompting.num_fewshot, prompting.system_instruction, **chat)
        instances.append(task.construct_requests(doc=doc, ctx=context, metadata=(name, i, 1), **chat))
    requests, indices = lm.engine_requests(instances), list(range(skip, skip + len(docs)))
    return PromptSet(instances, requests, name, str(split), data_hash(docs), indices, task)


def data_prompts(lm: EngineLM, spec: str, limit: int, prompting: Prompting, skip: int = 0) -> PromptSet:
    """`limit` problems after the first `skip`, of a JSON-lines file or a data set `NAME[:CONFIG]:SPLIT`.

    Raises:
        TrainingDataError: a test split, no such file or split, or records without a question.
    """
    source, split = _source_and_split(spec)
    if set(re.findall("[a-z]+", split.lower())) & set(TEST_NAMES):
        raise TrainingDataError(
            f"--data {spec}: {split!r} is a split that models are scored on; thresholds are measured "
            "and selectors trained on training problems only"
        )
    rows = _read_rows(spec, skip + limit)[skip:]
    if not rows:
        raise TrainingDataError(_nothing_left(f"--data {spec}", skip, len(_read_rows(spec, skip))))
    options: dict[str, Any] = {"until": [], "max_gen_toks": prompting.max_gen_toks or lm.max_gen_toks}
    instances = []
    for i, row in enumerate(rows):
        question = first_text(row, QUESTION_FIELDS)
        if question is None:
            raise TrainingDataError(
                f"--data {spec}: record {i} has no text under {', '.join(QUESTION_FIELDS)}; it has "
                f"{', '.join(row)}"
            )
        context = question_prompt(lm, question, prompting)
        instances.append(Instance("generate_until", row, (context, options), i, (source, i, 1)))
    requests, indices = lm.engine_requests(instances), list(range(skip, skip + len(rows)))
    return PromptSet(instances, requests, source, split, data_hash(rows), indices)


def _nothing_left(where: str, skip: int, count: int) -> str:
    """Why there is no problem."""
    if not count:
        return f"{where}: it has no problems"
    return f"{where}: --skip {skip} leaves none of its {count} problems; skip fewer"


def first_text(row: dict[str, Any], names: Sequence[str]) -> str | None:
    """The first of these fields that holds a text."""
    found = (row[name] for name in names if row.get(name))
    return next((text for text in found if isinstance(text, str)), None)


def question_prompt(lm: EngineLM, question: str, prompting: Prompting) -> str:
    """A question as it is put to the model: with a system turn and a chat template where wanted."""
    system = prompting.system_instruction
    if not prompting.apply_chat_template:
        return f"{system}\n\n{question}" if system else question
    turns = [{"role": "system", "content": system}] if system else []
    return lm.apply_chat_template([*turns, {"role": "user", "content": question}])


def _source_and_split(spec: str) -> tuple[str, str]:
    """A file's name and stem, or a data set's name and split ("train" where none is named)."""
    path = Path(spec)
    if path.suffix in FILE_SUFFIXES:
        return path.name, path.stem
    name, *rest = SPEC_FIELDS.split(spec)
    return name, rest[-1] if rest else "train"


def _read_rows(spec: str, limit: int) -> list[dict[str, Any]]:
    if Path(spec).suffix in FILE_SUFFIXES:
        return _read_lines(Path(spec), limit)
    name, split = _source_and_split(spec)
    config = SPEC_FIELDS.split(spec)[1:-1]
    from datasets import get_dataset_config_names, load_dataset

    try:
        if not config and "main" in (names := get_dataset_config_names(name)) and len(names) > 1:
            config = ["main"]  # of several configurations the one that is called so, as in openai/gsm8k
        data = load_dataset(name, *config, split=split)
    except (OSError, ValueError) as error:
        raise TrainingDataError(
            f"--data {spec}: it cannot be loaded ({error}); expected FILE.jsonl, NAME:SPLIT or "
            "NAME:CONFIG:SPLIT"
        ) from error
    return [dict(row) for row in data.select(range(min(limit, len(data))))]


def _read_lines(path: Path, limit: int) -> list[dict[str, Any]]:
    if not path.is_file():
        raise TrainingDataError(f"--data {path}: there is no such file")
    lines = read_json_lines(path, TrainingDataError, "--data ")
    return [line.record for line in itertools.islice(lines, limit)]
