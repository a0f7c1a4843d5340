"""The section `servers` of a recipe: which of its steps and rows have their models on vLLM servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from s2t_eval.remote.settings import RemoteSettings, server_urls

ONE_MODEL = ("greedy", "maj8", "maj_at_k")
"""`--model` names that decode one model, which may be on a server."""
WITH_TEACHER = ("s2t", "takeover", "r2r", "specreason")
"""`--model` names whose teacher may be on a server while the student is in their own process."""


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
        given = {name: value for name, value in self._settings.items() if value is not None}
        RemoteSettings(**given)
        for name in ("teacher_url", "student_url"):
            if (value := getattr(self, name)) is not None:
                server_urls(name, value)

    @property
    def addresses(self) -> dict[str, str]:
        """Each address -> what stands for it where steps are compared: a server may move."""
        named = {self.teacher_url: "TEACHER_URL"}
        return named if self.student_url is None else {**named, self.student_url: "STUDENT_URL"}

    @property
    def of_both(self) -> dict[str, Any]:
        """Options of a command whose models are both served, as far as they are."""
        if self.student_url is None:
            return {"teacher_url": self.teacher_url, **self._waiting}
        return {"student_url": self.student_url, "teacher_url": self.teacher_url, **self._settings}

    def of_row(self, model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """More arguments of a row: the servers of the recipe's teacher, unless it names servers itself.

        Args:
            model: lm_eval's `--model`.
            arguments: of the row, with references to artifacts.
        """
        if "student_url" in arguments or "teacher_url" in arguments:
            return {}
        if model in ONE_MODEL and arguments.get("pretrained") == "${teacher}":
            return {"student_url": self.teacher_url, **self._settings}
        if model in WITH_TEACHER and arguments.get("teacher") == "${teacher}":
            return {"teacher_url": self.teacher_url, **self._waiting}
        return {}

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            item.name: getattr(self, item.name) for item in fields(self) if not item.name.endswith("_url")
        }

    @property
    def _waiting(self) -> dict[str, Any]:
        """Where a model is in the same process, its batch decides how many texts are written at once."""
        return {name: value for name, value in self._settings.items() if name != "concurrency"}
