"""The harness's tasks and the prompt settings of their requests, which requests themselves do not contain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.api.utils import maybe_delimit

OUR_TASKS = "s2t_"
"""The beginning of the names of our tasks."""


@dataclass(frozen=True)
class PromptSettings:
    """The settings that make a prompt of a problem.

    Args:
        num_fewshot: worked examples before the problem.
        apply_chat_template: whether the model's chat template is applied.
        system_instruction: text of the system turn.
        fewshot_as_multiturn: whether the template has each example as turns of its own.
    """

    num_fewshot: int = 0
    apply_chat_template: bool = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = True

    def compared(self) -> dict[str, Any]:
        """The settings that calibrations and labels must share: of examples only where there are some."""
        settings = asdict(self)
        if not (self.num_fewshot and self.apply_chat_template):
            del settings["fewshot_as_multiturn"]
        return settings


_tasks: WeakValueDictionary[str, Task] = WeakValueDictionary()
_settings: WeakKeyDictionary[Task, PromptSettings] = WeakKeyDictionary()
_num_builds = 0


def record_built_tasks() -> None:
    """Record each task when it builds its requests: the harness does not pass tasks to models.

    Calling it again changes nothing. Remove when requests refer to their task.
    """
    build = Task.build_all_requests
    if getattr(build, "is_recorded_by_s2t_eval", False):
        return

    @functools.wraps(build)
    def build_and_record(self: Task, *args: Any, **kwargs: Any) -> None:
        global _num_builds
        _num_builds += 1
        _tasks[self.config.task] = self
        _settings[self] = PromptSettings(
            self.config.num_fewshot or 0,
            bool(kwargs.get("apply_chat_template")),
            kwargs.get("system_instruction"),
            bool(kwargs.get("fewshot_as_multiturn")),
        )
        build(self, *args, **kwargs)

    build_and_record.is_recorded_by_s2t_eval = True  # type: ignore[attr-defined]
    Task.build_all_requests = build_and_record


def num_builds() -> int:
    """How many times a task has built its requests in this process: it grows with every evaluation."""
    return _num_builds


def built_task(name: str) -> Task | None:
    """The task of this name that built its requests last in this process; None where none did."""
    return _tasks.get(name)


def prompt_settings(name: str) -> PromptSettings | None:
    """The settings with which the task of this name built its requests; None where none did."""
    task = built_task(name)
    return None if task is None else _settings[task]


def prompts_of(requests: Iterable[Instance]) -> list[PromptSettings]:
    """How the prompts of requests were made, once for each task.

    Args:
        requests: of the harness. Those made without one of its tasks have no settings.
    """
    settings = map(prompt_settings, {str(instance.task_name) for instance in requests})
    return [prompt for prompt in settings if prompt is not None]


def require_prompts(requests: Iterable[Instance], require: Callable[[Mapping[str, Any]], None]) -> None:
    """Compare the prompts of requests with those that an artifact was made with.

    Args:
        requests: of the harness; those without settings, see `prompts_of`, are not compared.
        require: raises an error where the settings that it is given, see `PromptSettings.compared`, differ.
    """
    for settings in prompts_of(requests):
        require(settings.compared())


def delimit_instructions() -> None:
    """End the instruction before a problem of our tasks with the task's delimiter, where no template does.

    lm_eval puts nothing between the two without a chat template, so stock descriptions end with a blank line.
    In a system turn that line would change the prompt, so ours have none. Stock tasks are not changed, nor is
    the prompt of any conversation. Calling it again changes nothing.
    """
    plain = ConfigurableTask.fewshot_context
    if getattr(plain, "is_delimited_by_s2t_eval", False):
        return

    @functools.wraps(plain)
    def delimited(
        self: ConfigurableTask,
        doc: dict[str, Any],
        num_fewshot: int,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        text = plain(self, doc, num_fewshot, system_instruction, apply_chat_template, *args, **kwargs)
        is_ours = str(self.config.task).startswith(OUR_TASKS)
        if apply_chat_template or not is_ours or not isinstance(text, str):
            return text
        description = self.resolve_field(doc, self.config.description)
        delimiter = self.config.fewshot_delimiter
        instruction = maybe_delimit(system_instruction, description, delimiter)
        return maybe_delimit(instruction, text.removeprefix(instruction), delimiter)

    delimited.is_delimited_by_s2t_eval = True  # type: ignore[attr-defined]
    ConfigurableTask.fewshot_context = delimited
