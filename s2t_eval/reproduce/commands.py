"""Command-line options for loading a recipe's models and for building the prompts of its problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.reproduce.parts import Problems, RouterTrainingPart, Training
from s2t_eval.reproduce.read import replaced_references
from s2t_eval.reproduce.schema import Models, Recipe

NOT_IN_PAIRS = frozenset(",{[\"'")
"""Characters that lm_eval does not take as they are in name=value pairs."""


def options(part: object, *left_out: str) -> list[str]:
    """A part of a recipe as options: `--name value`, or a bare `--name` where the value is true."""
    words: list[str] = []
    for item in fields(part):  # type: ignore[arg-type]
        value = getattr(part, item.name)
        if item.name not in left_out and value is not False:
            words += option(item.name, value)
    return words


def option(name: str, value: object) -> list[str]:
    """`--name value`, with several values of a tuple; nothing for None and for an empty tuple.

    A text that begins with a hyphen, which reads as an option, is joined to its name: `--name=- Solve it`.
    """
    if value is None or value == ():
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, str) and value.startswith("-"):
        return [f"--{name}={value}"]
    return [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]


def loading(recipe: Recipe, student: str) -> list[str]:
    """How the commands that train and label load the student."""
    models = recipe.models
    words = ["--pretrained", student, "--dtype", models.dtype, *option("device", models.device)]
    return words + ["--trust_remote_code"] * models.trust


def posing(recipe: Recipe, problems: Problems) -> list[str]:
    """Which training problems, and how they are put to the student."""
    limits, prompt = recipe.limits, recipe.prompt
    words = option("batch_size", limits.batch_size)
    words += option("system_instruction", problems.system_instruction or prompt.system_instruction)
    words += ["--apply_chat_template"] * prompt.apply_chat_template
    words += option("max_gen_toks", limits.max_gen_toks)
    words += option("num_fewshot", prompt.num_fewshot) if problems.task is not None else []
    words += options(problems, "limit", "system_instruction")
    return words + option("limit", least(problems.limit, limits.problems))


def asking(recipe: Recipe, task: str) -> list[str]:
    """How lm_eval puts the documents of a task, and how many at once."""
    limits, prompt = recipe.limits, recipe.prompt
    words = option("batch_size", limits.batch_size)
    words += ["--apply_chat_template"] * prompt.apply_chat_template
    words += option("system_instruction", prompt.system_instruction)
    words += option("num_fewshot", prompt.num_fewshot)
    words += option("gen_kwargs", limits.max_gen_toks and f"max_gen_toks={limits.max_gen_toks}")
    return words + ["--confirm_run_unsafe_code"] * benchmark_of(task).is_code


def precision(recipe: Recipe, part: Training) -> list[str]:
    """The training loop's precision where the recipe names none: what suits the student's dtype.

    R2R's router is in float32, whatever its student is.
    """
    if isinstance(part, RouterTrainingPart):
        return []
    is_narrow = part.precision is None and recipe.models.dtype == "bfloat16"
    return ["--precision", "bf16"] if is_narrow else []


def model_arguments(recipe: Recipe, arguments: Mapping[str, Any], place_of: Callable[[str], str]) -> str:
    """Arguments of a model as lm_eval reads them, with the recipe's way of loading.

    Args:
        recipe: whose models they are of.
        arguments: with references to artifacts.
        place_of: where an artifact lies.
    """
    loading_arguments = row_loading(recipe.models, arguments)
    return argument_text(replaced_references({**loading_arguments, **arguments}, place_of))


def row_loading(models: Models, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How a recipe loads the models of a row, for `--model_args`; None for what it leaves out.

    A row that decodes the recipe's teacher alone loads it as the rows do that select with it. What is on a
    server is not loaded.

    Args:
        models: of the recipe.
        arguments: of the row, with references to artifacts.
    """
    loading: dict[str, Any] = {"dtype": models.dtype, "device": models.device}
    loading["trust_remote_code"] = True if models.trust else None
    if arguments.get("pretrained") == "${teacher}":
        is_served = arguments.get("student_url") is not None
        dtype = {} if models.teacher_dtype is None else {"dtype": models.teacher_dtype}
        loading |= dtype if is_served else models.teacher_loading
    if arguments.get("teacher_url") is not None:
        return loading
    if arguments.get("teacher") == "${teacher}":
        loading |= {f"teacher_{name}": value for name, value in models.teacher_loading.items()}
    elif "teacher" in arguments:
        loading["teacher_dtype"] = models.teacher_dtype
    return loading


def argument_text(arguments: Mapping[str, Any]) -> str:
    """Arguments as `--model_args` and `--teacher_args` read them; those that are None are left out.

    Returns:
        name=value pairs joined by commas, or one JSON object where that form could not hold a value.
    """
    values = {name: value for name, value in arguments.items() if value is not None}
    is_nested = any(isinstance(value, Mapping | list | tuple) for value in values.values())
    if is_nested or any(NOT_IN_PAIRS & set(str(value)) for value in values.values()):
        return json.dumps(values, ensure_ascii=False)
    return ",".join(f"{name}={value}" for name, value in values.items())


def least(*counts: int | None) -> int | None:
    """The smallest of the counts that are not None; None where all are."""
    known_counts = [count for count in counts if count is not None]
    return min(known_counts) if known_counts else None
