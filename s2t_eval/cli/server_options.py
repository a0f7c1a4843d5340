"""Options of the commands whose models may be on vLLM servers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from s2t_eval.remote.settings import RemoteSettings, server_urls

ADDRESSES = ("student_url", "teacher_url")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Models on vLLM servers instead of in this process; both of them are, or none.

    Args:
        student_url: base URLs of the student's servers, joined by `+`. `--pretrained` then names the
            tokenizer and the configuration; no weights are loaded.
        teacher_url: the same of the teacher's servers.
        concurrency: texts on the servers at once.
        timeout_s: seconds after which a request without an answer is sent again.
        patience_s: seconds for which a request is repeated while no server of its role answers.
    """

    student_url: str | None = None
    teacher_url: str | None = None
    concurrency: int = RemoteSettings.concurrency
    timeout_s: float = RemoteSettings.timeout_s
    patience_s: float = RemoteSettings.patience_s

    def __post_init__(self) -> None:
        RemoteSettings(concurrency=self.concurrency, timeout_s=self.timeout_s, patience_s=self.patience_s)
        for name in ADDRESSES:
            value = getattr(self, name)
            if value is not None:
                server_urls("--" + name.replace("_", "-"), value)
        if self.student_url is None:
            self._require_none()

    def _require_none(self) -> None:
        """Raise `ValueError` for options that need the student's servers."""
        if self.teacher_url is not None:
            raise ValueError("--teacher-url: give --student-url too; both models are on servers, or none")
        for name in ("concurrency", "timeout_s", "patience_s"):
            if getattr(self, name) != getattr(RemoteSettings, name):
                raise ValueError(f"--{name}: it is a setting of servers; give --student-url, or leave it out")

    def arguments(self, teacher: str | None) -> dict[str, Any]:
        """The arguments of a backend; empty where no model is on a server.

        Args:
            teacher: the option of this name, with which a teacher's servers are needed.

        Raises:
            ValueError: a teacher without servers, where the student has some.
        """
        if self.student_url is None:
            return {}
        if teacher is not None and self.teacher_url is None:
            raise ValueError(
                f"--teacher {teacher}: with --student-url its servers are needed too; give --teacher-url"
            )
        values = asdict(self)
        return {name: value for name, value in values.items() if name != "teacher_url" or value is not None}
