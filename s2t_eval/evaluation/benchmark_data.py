"""The data of each benchmark; task YAMLs refer to these functions: `custom_dataset: !function ...gsm8k`."""

from __future__ import annotations

import re
from typing import Any

from datasets import Dataset

from s2t_eval.evaluation.data import Source, load
from s2t_eval.evaluation.grading import scorer, shared_grader
from s2t_eval.evaluation.grading.numbers.parsing import parse_number
from s2t_eval.evaluation.sandbox import find_isolation

TEST = {"test": ("test",)}
DEV_PROBLEMS = 500
"""Maximum number of development problems, which are neither trained on nor reported."""
PROBLEM = {"problem": ("problem", "question"), "answer": ("answer", "final_answer")}
LETTERS = "ABCDEFGHIJ"
"""Of the options of MMLU-Pro, whose prompt has no others."""
MAX_SHOWN = 60


def _number_fault(record: dict[str, Any]) -> str | None:
    """The fault of a problem whose right answer is no number: every response would be wrong."""
    gold = scorer.number.gold(record)
    if parse_number(gold) is not None:
        return None
    return (
        f"its answer {gold[:MAX_SHOWN]!r} is no number; expected a number, alone or behind the last '####' "
        "of a solution"
    )


def _choice_fault(record: dict[str, Any]) -> str | None:
    """The fault of a multiple-choice question without a list of options, or with the letter of none."""
    options, answer = record["options"], record["answer"]
    is_list = isinstance(options, list) and all(isinstance(option, str) for option in options)
    if not is_list or not 1 < len(options) <= len(LETTERS):
        return (
            f"expected its options as a list of 2 to {len(LETTERS)} texts, got "
            f"{repr(options)[:MAX_SHOWN]}; CSV holds no lists, so use JSON lines or Parquet"
        )
    letters = LETTERS[: len(options)]
    if answer.strip().upper() in list(letters):
        return None
    return f"expected its answer as a letter from {letters[0]} to {letters[-1]}, got {answer[:MAX_SHOWN]!r}"


def _program_fault(record: dict[str, Any]) -> str | None:
    """The fault of a problem without the function that is asked for, or without `check`, which tests it."""
    for field, name in (("prompt", str(record["entry_point"])), ("test", "check")):
        if re.search(rf"\bdef\s+{re.escape(name)}\b", str(record[field])) is None:
            return f"its field {field!r} defines no function {name!r}"
    return None


GSM8K = Source(
    hub="openai/gsm8k",
    config="main",
    folder="openai/gsm8k",
    splits={"train": ("train",), **TEST},
    fields={"question": ("question",), "answer": ("answer",)},
    fault=_number_fault,
)
MATH500 = Source("HuggingFaceH4/MATH-500", "HuggingFaceH4/MATH-500", TEST, PROBLEM)
AIME25 = Source("math-ai/aime25", "math-ai/aime25", TEST, PROBLEM, fault=_number_fault)
OLYMPIADBENCH = Source(
    hub="Hothan/OlympiadBench",
    config="OE_TO_maths_en_COMP",
    folder="olympiadbench",
    splits={"test": ("test", "train")},  # the only split on the Hub is called train
    fields=PROBLEM,
)
MINERVA_MATH = Source("math-ai/minervamath", "minerva_math", TEST, PROBLEM)
HUMANEVAL = Source(
    hub="openai/openai_humaneval",
    folder="openai/openai_humaneval",
    splits=TEST,
    fields={name: (name,) for name in ("prompt", "test", "entry_point", "canonical_solution")},
    fault=_program_fault,
)
MMLU_PRO = Source(
    hub="TIGER-Lab/MMLU-Pro",
    folder="TIGER-Lab/MMLU-Pro",
    splits=TEST,
    fields={"question": ("question",), "options": ("options",), "answer": ("answer",)},
    fault=_choice_fault,
)
SOURCES = (GSM8K, MATH500, AIME25, OLYMPIADBENCH, MINERVA_MATH, HUMANEVAL, MMLU_PRO)


def gsm8k(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of GSM8k; the last problems of the training split, at most a tenth of it, become `dev`."""
    splits = load(GSM8K, data)
    train = splits["train"]
    count = min(DEV_PROBLEMS, len(train) // 10)
    if count:
        first = len(train) - count
        splits |= {"train": train.select(range(first)), "dev": train.select(range(first, len(train)))}
    return splits


def math500(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of MATH500.

    Raises:
        GraderBrokenError: expressions cannot be compared; raised before anything is generated.
    """
    shared_grader().check()
    return load(MATH500, data)


def aime25(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of AIME 2025."""
    return load(AIME25, data)


def olympiadbench(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of OlympiadBench's English text-only problems with a final answer.

    Raises:
        GraderBrokenError: expressions cannot be compared; raised before anything is generated.
    """
    shared_grader().check()
    return load(OLYMPIADBENCH, data)


def minerva_math(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of Minerva's undergraduate problems (OCWCourses).

    Raises:
        GraderBrokenError: expressions cannot be compared; raised before anything is generated.
    """
    shared_grader().check()
    return load(MINERVA_MATH, data)


def humaneval(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of HumanEval.

    Raises:
        SandboxUnavailableError: no sandbox works; raised before anything is generated.
    """
    find_isolation()
    return load(HUMANEVAL, data)


def mmlu_pro(data: str | None = None, **_metadata: object) -> dict[str, Dataset]:
    """Splits of MMLU-Pro."""
    return load(MMLU_PRO, data)
