"""Options of the commands whose models may be on vLLM servers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from s2t_eval.method_table import ADDRESSES
from s2t_eval.remote.settings import RemoteSettings, server_urls


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Models on vLLM servers instead of in this process.

    Args:
        student_url: base URLs of the student's servers, joined by `+`. `--pretrained` then names the
            tokenizer and the configuration; no weights are loaded.
        teacher_url: the same for the teacher's servers.
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
                server_urls(f"--{name}", value)
        if self.uses_servers:
            return
        for name in ("concurrency", "timeout_s", "patience_s"):
            if getattr(self, name) != getattr(RemoteSettings, name):
                raise ValueError(f"--{name}: it is a setting of servers; give --student_url, or leave it out")

    @property
    def uses_servers(self) -> bool:
        """Whether a model is on servers."""
        return self.student_url is not None or self.teacher_url is not None

    def require_both(self, teacher: str | None) -> None:
        """Raise `ValueError` where one model is on servers and the other one in this process.

        Args:
            teacher: the option of this name.
        """
        if self.teacher_url is not None and self.student_url is None:
            raise ValueError("--teacher_url: give --student_url too; both models are on servers, or none")
        if self.student_url is not None and teacher is not None and self.teacher_url is None:
            raise ValueError(
                f"--teacher {teacher}: with --student_url its servers are needed too; give --teacher_url"
            )

    def arguments(self) -> dict[str, Any]:
        """The arguments of a backend; empty where no model is on a server."""
        if not self.uses_servers:
            return {}
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in ADDRESSES or value is not None}
