"""`s2t-eval servers check`: what vLLM servers are and can do, and the flag of everything that is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class ServersCheck:
    """Check what vLLM servers are and can do, by a few requests to each.

    Exit codes: 0 a run can use the servers, 1 it would be refused (a line marked `failed`).

    Args:
        student_url: base URLs of student servers, joined by `+`.
        teacher_url: the same of teacher servers, which also have to score a chunk in one request.
        timeout_s: seconds a request may take; the first one of a new server takes longest.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval servers check --student_url http://127.0.0.1:8001"

    student_url: str | None = None
    teacher_url: str | None = None
    timeout_s: float = 120.0

    def run(self) -> None:
        """Print a line for each finding; exit with 1 where a run would be refused."""
        from s2t_eval.remote.probe import examine
        from s2t_eval.remote.settings import RemoteSettings, server_urls

        if not (self.student_url or self.teacher_url):
            raise ValueError("expected --student_url URL, --teacher_url URL or both, got neither")
        students = server_urls("--student_url", self.student_url) if self.student_url else ()
        teachers = server_urls("--teacher_url", self.teacher_url) if self.teacher_url else ()
        reports = examine(students, teachers, RemoteSettings(timeout_s=self.timeout_s))
        for report in reports:
            server = report.server
            print(f"{report.role} server {server.url}: {server.model}, up to {server.max_length} tokens")
            for finding in report.findings:
                mark = "ok" if finding.is_present else "failed" if finding.is_needed else "note"
                print(f"  {mark:7}{finding.name:14}{finding.message}")
        if any(report.faults for report in reports):
            raise SystemExit(1)
