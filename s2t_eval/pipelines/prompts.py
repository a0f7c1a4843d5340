"""Prompts of training problems, for calibration and training, made as evaluation makes them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.engine import Request
from s2t_eval.method_table import GENERATED
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.registration import task_manager_of
from s2t_eval.pipelines.settings import Prompting, Source, has_no_examples
from s2t_eval.pipelines.task_instances import task_instances
from s2t_eval.report.benchmarks import DEV

TEST_NAMES = ("test", "eval", "validation")
FILE_SUFFIXES = (".jsonl", ".json")
SPEC_FIELDS = re.compile(r":(?![^\[]*\])")
"""The colons that separate NAME:CONFIG:SPLIT; the colon of a slice such as train[:100] is not one of them."""
QUESTION_FIELDS = ("question", "problem", "prompt")


class TrainingDataError(ValueError):
    """Problems cannot be read, or must not be calibrated or trained on."""


@dataclass(frozen=True)
class PromptSet:
    """The harness's prompts of training problems, with the engine's request for each.

    Args:
        instances: the harness's requests, in the order of the problems.
        requests: the engine's request for each of them.
        source: name of the task or data set.
        split: name of the split.
        hash: hash of the problems' records.
        indices: indices of the problems in the split.
        task: the problems' task; None for a data set.
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
        """Each problem's question; see `question_of`."""
        return [question_of(doc, self.task) for doc in self.docs]

    @property
    def names(self) -> list[str]:
        """The id of each problem: SOURCE/SPLIT/INDEX."""
        return [f"{self.source}/{self.split}/{index}" for index in self.indices]

    @property
    def longest_first(self) -> list[Request]:
        """The requests as evaluation orders them: prompts with a shared prefix are together."""
        return sorted(self.requests, key=lambda request: request.longest_first)

    def described(self, skip: int, num_kept: int) -> dict[str, Any]:
        """The manifest's entry of the problems that labels are made of.

        Args:
            skip: number of problems that were left out before these.
            num_kept: number of these that are no evaluation problems.
        """
        return {
            "source": self.source,
            "split": self.split,
            "hash": self.hash,
            "skip": skip,
            "problems": num_kept,
            "left_out_as_evaluation_problems": len(self.instances) - num_kept,
        }

    def without(self, left_out: Collection[int]) -> PromptSet:
        """The set without some problems; the hash is that of the remaining problems.

        Args:
            left_out: positions of these problems in this set.
        """
        kept = [i for i in range(len(self.instances)) if i not in left_out]
        return replace(
            self,
            instances=[self.instances[i] for i in kept],
            requests=[self.requests[i] for i in kept],
            hash=data_hash([self.instances[i].doc for i in kept]),
            indices=[self.indices[i] for i in kept],
        )


def recorded_prompting(prompting: Prompting, request: Request) -> dict[str, Any]:
    """How prompts were made, with the length limit that held, as calibrations and labels record it."""
    return {**asdict(prompting), "max_gen_toks": request.max_new_tokens}


def source_prompts(lm: EngineLM, source: Source, prompting: Prompting) -> PromptSet:
    """The prompts of the problems of a source."""
    if source.task is not None:
        return task_prompts(lm, source.task, source.limit, prompting, source.skip)
    assert source.data is not None
    return data_prompts(lm, source.data, source.limit, prompting, source.skip)


def task_prompts(lm: EngineLM, name: str, limit: int, prompting: Prompting, skip: int = 0) -> PromptSet:
    """Prompts of a task's training problems, made by the task.

    Args:
        lm: the model.
        name: name of the task.
        limit: number of problems.
        prompting: how prompts are made.
        skip: number of problems that are left out before them.

    Of a task whose name ends in `_dev` they are its development problems: settings are chosen by them.

    Raises:
        TrainingDataError: there is no such task, it has no training split of its own, no text is written for
            it, or it is defined to have no examples and some are asked for.
    """
    task, split, every = task_problems(name)
    if task.OUTPUT_TYPE != GENERATED:
        raise TrainingDataError(
            f"--task {name}: expected a task that texts are written for (output_type: {GENERATED}), got "
            f"output_type: {task.OUTPUT_TYPE}; name another one, or give its problems with --data"
        )
    docs = [every[i] for i in range(skip, min(skip + limit, len(every)))]
    if not docs:
        raise TrainingDataError(_no_problems(f"--task {name}", skip, len(every)))
    if prompting.max_gen_toks is not None:
        update = {"max_gen_toks": prompting.max_gen_toks}
        task.set_config(key="generation_kwargs", value=update, update=True)
    if prompting.num_fewshot and task.config.num_fewshot == 0:
        raise TrainingDataError(has_no_examples("--num_fewshot", prompting.num_fewshot, name))
    indices = list(range(skip, skip + len(docs)))
    instructions = [prompting.system_instruction] * len(docs)
    instances = task_instances(lm, task, name, docs, indices, prompting, instructions)
    requests = lm.engine_requests(instances)
    return PromptSet(instances, requests, name, str(split), data_hash(docs), indices, task)


def requests_with_instructions(
    lm: EngineLM, prompts: PromptSet, prompting: Prompting, instructions: Sequence[str]
) -> list[Request]:
    """The engine's requests of the same problems, with the same examples and other system instructions.

    Args:
        lm: the model.
        prompts: the problems.
        prompting: how their prompts were made.
        instructions: each problem's instruction, in place of that of `prompting`.
    """
    if prompts.task is not None:
        return lm.engine_requests(
            task_instances(
                lm, prompts.task, prompts.source, prompts.docs, prompts.indices, prompting, instructions
            )
        )
    return lm.engine_requests(
        [
            replace(instance, arguments=(_prompt_with(lm, question, prompting, text), instance.args[1]))
            for instance, question, text in zip(
                prompts.instances, prompts.questions, instructions, strict=True
            )
        ]
    )


def _prompt_with(lm: EngineLM, question: str, prompting: Prompting, instruction: str) -> str:
    return question_prompt(lm, question, replace(prompting, system_instruction=instruction))


class TaskProblems(NamedTuple):
    """The problems of a task that may be calibrated or trained on."""

    task: Task
    split: str
    docs: Sequence[dict[str, Any]]


def task_problems(name: str) -> TaskProblems:
    """The training problems of a task; of one whose name ends in `_dev`, its development problems.

    Raises:
        TrainingDataError: there is no such task, or it has no training split of its own.
    """
    try:
        task = task_manager_of([name]).load([name])["tasks"][name]
    except KeyError as error:
        raise TrainingDataError(
            f"--task {name}: lm_eval has no single task of this name; `lm_eval ls tasks` lists them"
        ) from error
    return TaskProblems(task, *_split_of(name, task))


def _split_of(name: str, task: Any) -> tuple[str, Sequence[dict[str, Any]]]:
    """Name and documents of the split that may be calibrated on.

    Raises:
        TrainingDataError: the task has none.
    """
    split, scored = task.config.training_split, (task.config.test_split, task.config.validation_split)
    if name.endswith(DEV):
        return str(task.config.test_split), _indexed(task.test_docs())
    if not task.has_training_docs() or split in scored:
        raise TrainingDataError(
            f"--task {name}: it has no training split beside the split that it is scored on, which must not "
            "be calibrated or trained on; use another data set with --data"
        )
    return str(split), _indexed(task.training_docs())


def _indexed(docs: Any) -> Sequence[dict[str, Any]]:
    """The documents, of which a `Dataset` makes only those that are read."""
    return docs if isinstance(docs, Dataset) else list(docs)


def require_training_problems(prompts: PromptSet) -> None:
    """Raise `TrainingDataError` for development problems: what learnt from them cannot be chosen by them."""
    if prompts.source.endswith(DEV):
        raise TrainingDataError(
            f"--task {prompts.source}: its problems choose settings, and nothing is trained on them; name "
            f"{prompts.source.removesuffix(DEV)}"
        )


def data_prompts(lm: EngineLM, spec: str, limit: int, prompting: Prompting, skip: int = 0) -> PromptSet:
    """Prompts of the problems of a file or data set.

    Args:
        lm: the model.
        spec: a JSON-lines file, or a data set as NAME[:CONFIG][:SPLIT].
        limit: number of problems.
        prompting: how prompts are made.
        skip: number of problems that are left out before them.

    Raises:
        TrainingDataError: the split is a test split, there is no such file or split, or a record has no
            question.
    """
    source, split = _source_and_split(spec)
    if set(re.findall("[a-z]+", split.lower())) & set(TEST_NAMES):
        raise TrainingDataError(
            f"--data {spec}: {split!r} is a split that models are scored on, which must not be calibrated or "
            "trained on; use a training split"
        )
    rows = _read_rows(spec, skip + limit)[skip:]
    if not rows:
        raise TrainingDataError(_no_problems(f"--data {spec}", skip, len(_read_rows(spec, skip))))
    options: dict[str, Any] = {"until": [], "max_gen_toks": prompting.max_gen_toks or lm.max_gen_toks}
    instances = []
    for i, row in enumerate(rows):
        question = first_text(row, QUESTION_FIELDS)
        if question is None:
            raise TrainingDataError(
                f"--data {spec}: record {skip + i} has no text under {', '.join(QUESTION_FIELDS)}; it has "
                f"{', '.join(row)}"
            )
        context = question_prompt(lm, question, prompting)
        instances.append(Instance(GENERATED, row, (context, options), i, (source, i, 1)))
    requests, indices = lm.engine_requests(instances), list(range(skip, skip + len(rows)))
    return PromptSet(instances, requests, source, split, data_hash(rows), indices)


def _no_problems(flag: str, skip: int, count: int) -> str:
    """The message for a source of `count` problems of which none is left after `skip`."""
    if not count:
        return f"{flag}: it has no problems"
    return f"{flag}: --skip {skip} leaves none of its {count} problems; skip fewer"


def first_text(row: dict[str, Any], names: Sequence[str]) -> str | None:
    """The value of the first of these fields that contains a text; None if none does."""
    values = (row[name] for name in names if row.get(name))
    return next((value for value in values if isinstance(value, str)), None)


def question_of(doc: dict[str, Any], task: Task | None) -> str:
    """The question of a record: the text of a field of that name, else the text that its task makes of it.

    It does not depend on how prompts are made, so it identifies the problem wherever it is read.

    Args:
        doc: the record.
        task: its task; None for a record of a data set, which has such a field.
    """
    question = first_text(doc, QUESTION_FIELDS)
    if question is None:
        assert task is not None
        question = str(task.doc_to_text(doc))
    return question


def question_prompt(lm: EngineLM, question: str, prompting: Prompting) -> str:
    """The prompt of a single question, with the system turn and the chat template of `prompting`."""
    system = prompting.system_instruction
    if not prompting.apply_chat_template:
        return f"{system}\n\n{question}" if system else question
    turns = [{"role": "system", "content": system}] if system else []
    return lm.apply_chat_template([*turns, {"role": "user", "content": question}])


def _source_and_split(spec: str) -> tuple[str, str]:
    """Name and stem of a file, or name and split of a data set ("train" if no split is given)."""
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
            config = ["main"]  # the usual name of the default configuration, as in openai/gsm8k
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
