"""The section `servers` of a recipe: which of its steps and rows have their models on vLLM servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from s2t_eval.method_table import ADDRESSES
from s2t_eval.remote.settings import RemoteSettings, server_urls

ONE_MODEL = ("greedy", "maj8", "maj_at_k")
"""`--model` names that decode one model, which may be on a server."""
WITH_TEACHER = ("s2t", "takeover", "r2r", "specreason")
"""`--model` names whose teacher may be on a server while the student is in their own process."""
STUDENT_URL, TEACHER_URL = ADDRESSES


@dataclass(frozen=True, kw_only=True)
class Servers:
    """vLLM servers that run while the recipe does, so that its rows, labels and calibration load no teacher.

    A row of the student decodes it in its own process, whether a teacher on a server selects or not; a row of
    the teacher alone is decoded by the server. `distilled`, `rlkd` and `routers` learn from what servers do
    not return, and load the teacher.

    Args:
        teacher_url: base URLs of the teacher's servers, joined by `+`.
        student_url: the same of the student's, for labels and calibration, which then load no model. None:
            labels load the student; a calibration needs it.
        concurrency: texts on the servers at once in steps without a model of their own.
        timeout_s: seconds after which a request without an answer is sent again.
        patience_s: seconds for which a request is repeated while no server of its role answers.
    """

    teacher_url: str
    student_url: str | None = None
    concurrency: int | None = None
    timeout_s: float | None = None
    patience_s: float | None = None

    def __post_init__(self) -> None:
        RemoteSettings(**self._settings)
        for name in ADDRESSES:
            if (value := getattr(self, name)) is not None:
                server_urls(name, value)

    @property
    def command_options(self) -> dict[str, Any]:
        """Options of `s2t-eval calibrate` and `collect`."""
        if self.student_url is None:
            return {TEACHER_URL: self.teacher_url, **self._timeouts}
        return {STUDENT_URL: self.student_url, TEACHER_URL: self.teacher_url, **self._settings}

    def row_arguments(self, model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a row lacks to have the recipe's teacher on its server.

        A row that names the address itself, or `null` to load its model, has nothing added.

        Args:
            model: lm_eval's `--model`.
            arguments: of the row, with references to artifacts.
        """
        added: dict[str, Any] = {}
        if (
            model in ONE_MODEL
            and arguments.get("pretrained") == "${teacher}"
            and STUDENT_URL not in arguments
        ):
            added = {STUDENT_URL: self.teacher_url, **self._settings}
        elif (
            model in WITH_TEACHER
            and arguments.get("teacher") == "${teacher}"
            and TEACHER_URL not in arguments
        ):
            added = {TEACHER_URL: self.teacher_url, **self._timeouts}
        return {name: value for name, value in added.items() if name not in arguments}

    @property
    def _settings(self) -> dict[str, Any]:
        """Those that the recipe names."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ADDRESSES}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def _timeouts(self) -> dict[str, Any]:
        """Where a model is in the same process, its batch decides how many texts are written at once."""
        return {name: value for name, value in self._settings.items() if name != "concurrency"}


def placeless(added: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `row_arguments` as they are compared: that a model is served, and not where or how.

    No text depends on the rest, so a step stays done when its server moves or gets more patience.
    """
    return {name: "a server" if name in ADDRESSES else None for name in added}


def loaded_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a row without those that name a model on a server."""
    served = [
        name for name, url in (("pretrained", STUDENT_URL), ("teacher", TEACHER_URL)) if arguments.get(url)
    ]
    return {name: value for name, value in arguments.items() if name not in served}
