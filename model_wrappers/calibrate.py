"""Measure the thresholds of all triggers on greedy texts of training problems (`s2t-eval calibrate`)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from s2t_eval.calibration import Calibration, quantile_thresholds, trigger_key
from s2t_eval.fingerprint import data_hash
from s2t_eval.model_wrappers.engine_lm import EngineLM
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.triggers import EntropyTrigger, KlTrigger, MarginTrigger, Trigger

TEST_NAMES = ("test", "eval", "validation")
FILE_SUFFIXES = (".jsonl", ".json")
SPEC_FIELDS = re.compile(r":(?![^\[]*\])")
"""The colons of NAME:CONFIG:SPLIT, but not that of a slice such as train[:100]."""
QUESTION_FIELDS = ("question", "problem", "prompt")


class CalibrationDataError(ValueError):
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


@dataclass(frozen=True)
class Problems:
    """Requests to greedy-decode, and where they come from."""

    instances: list[Instance]
    source: str
    split: str
    hash: str


def calibrate(
    lm: EngineLM, problems: Problems, prompting: Prompting, taus: Sequence[float], warmup: int
) -> Calibration:
    """Decode the problems greedily and take quantiles of every trigger's divergence over all steps."""
    local: list[Trigger] = [EntropyTrigger(), MarginTrigger()]
    kl: list[Trigger] = [KlTrigger("student_teacher"), KlTrigger("teacher_student")]
    observed = local + kl if isinstance(lm, SelectToThink) else local
    values: list[list[float]] = [[] for _ in observed]
    jobs = lm._jobs(problems.instances)
    decoder = lm.decoder(observed)
    for result in tqdm(decoder.run([job.request for job in jobs]), total=len(jobs), desc="Calibrating"):
        for mine, theirs in zip(values, result.observed, strict=True):
            mine.extend(theirs[warmup:])
    if not values[0]:
        raise CalibrationDataError(
            f"warmup: {warmup} tokens leave no step of {len(jobs)} texts to calibrate on"
        )
    return Calibration(
        thresholds={
            trigger_key(trigger): dict(quantile_thresholds(mine, taus))
            for trigger, mine in zip(observed, values, strict=True)
        },
        num_steps=len(values[0]),
        num_texts=len(jobs),
        warmup=warmup,
        data={"source": problems.source, "split": problems.split, "hash": problems.hash},
        prompt={
            "system_instruction": prompting.system_instruction,
            "apply_chat_template": prompting.apply_chat_template,
            "num_fewshot": prompting.num_fewshot,
            "max_gen_toks": jobs[0].request.max_new_tokens,
        },
        student=lm.student_fingerprint,
        teacher=lm.teacher_fingerprint if isinstance(lm, SelectToThink) else None,
    )


def load_lm(pretrained: str, teacher: str | None, **stock: Any) -> EngineLM:
    """The student, with its teacher in lockstep if there is one."""
    if teacher is None:
        return Greedy(pretrained, **stock)
    return SelectToThink(pretrained, teacher=teacher, trigger="never", **stock)


def task_problems(lm: EngineLM, name: str, limit: int, prompting: Prompting) -> Problems:
    """The first `limit` training problems of a harness task, prompted as the task prompts.

    Raises:
        CalibrationDataError: the task has no training split of its own.
    """
    try:
        task = TaskManager().load([name])["tasks"][name]
    except KeyError as error:
        raise CalibrationDataError(
            f"--task {name}: lm_eval knows no single task of this name; `lm_eval ls tasks` lists them"
        ) from error
    split = task.config.training_split
    if not task.has_training_docs() or split in (
        task.config.test_split,
        task.config.validation_split,
    ):
        raise CalibrationDataError(
            f"--task {name}: it has no training split beside the one it is scored on, and thresholds "
            "are never measured on a test split; calibrate on another data set with --data"
        )
    docs = [doc for doc, _ in zip(task.training_docs(), range(limit), strict=False)]
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
    return Problems(instances, name, str(split), data_hash(docs))


def data_problems(lm: EngineLM, spec: str, limit: int, prompting: Prompting) -> Problems:
    """Problems of a JSON-lines file or of a hub data set `NAME:SPLIT` (or `NAME:CONFIG:SPLIT`).

    Raises:
        CalibrationDataError: a test split, no such file or split, or records without a question.
    """
    source, split = _source_and_split(spec)
    if set(re.findall("[a-z]+", split.lower())) & set(TEST_NAMES):
        raise CalibrationDataError(
            f"--data {spec}: {split!r} is a split that models are scored on; thresholds are measured "
            "on training problems only"
        )
    rows = _read_rows(spec, limit)
    if not rows:
        raise CalibrationDataError(f"--data {spec}: it has no problems")
    options: dict[str, Any] = {"until": [], "max_gen_toks": prompting.max_gen_toks or lm.max_gen_toks}
    instances = []
    for i, row in enumerate(rows):
        question = next((row[name] for name in QUESTION_FIELDS if row.get(name)), None)
        if not isinstance(question, str):
            raise CalibrationDataError(
                f"--data {spec}: record {i} has no text under {', '.join(QUESTION_FIELDS)}; it has "
                f"{', '.join(row)}"
            )
        context = _prompt(lm, question, prompting)
        instances.append(Instance("generate_until", row, (context, options), i, (source, i, 1)))
    return Problems(instances, source, split, data_hash(rows))


def _prompt(lm: EngineLM, question: str, prompting: Prompting) -> str:
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
    from datasets import load_dataset

    try:
        data = load_dataset(name, *config, split=split)
    except (OSError, ValueError) as error:
        raise CalibrationDataError(
            f"--data {spec}: it cannot be loaded ({error}); expected FILE.jsonl, NAME:SPLIT or "
            "NAME:CONFIG:SPLIT"
        ) from error
    return [dict(row) for row in data.select(range(min(limit, len(data))))]


def _read_lines(path: Path, limit: int) -> list[dict[str, Any]]:
    if not path.is_file():
        raise CalibrationDataError(f"--data {path}: there is no such file")
    rows = []
    with path.open() as lines:
        for number, line in zip(range(1, limit + 1), lines, strict=False):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise CalibrationDataError(
                    f"--data {path}, line {number}: expected one JSON object, got {line[:60]!r}"
                )
            rows.append(row)
    return rows
