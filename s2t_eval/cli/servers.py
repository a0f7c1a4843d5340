"""`s2t-eval servers check`: what vLLM servers are and can do, and the flag of everything that is missing."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from s2t_eval.cli.flags import Commands


@dataclass(frozen=True)
class ServersCheck:
    """Which servers are checked.

    Args:
        student_url: base URLs of student servers, joined by `+`.
        teacher_url: the same of teacher servers, which are also asked to score a chunk in one request.
        timeout_s: seconds a request may take; the first one of a new server takes longest.
    """

    student_url: str | None = None
    teacher_url: str | None = None
    timeout_s: float = 120.0


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "servers", help="what vLLM servers are and can do", epilog="exit code 1: a run would be refused"
    )
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="send a few requests to each server, and print what is missing")
    defaults = ServersCheck()
    check.add_argument("--student_url", "--student-url", help="base URLs of student servers, joined by +")
    check.add_argument("--teacher_url", "--teacher-url", help="base URLs of teacher servers, joined by +")
    check.add_argument(
        "--timeout_s",
        "--timeout-s",
        type=float,
        default=defaults.timeout_s,
        help="seconds a request may take",
    )
    check.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Check the servers that the flags name."""
    check(ServersCheck(parsed.student_url, parsed.teacher_url, parsed.timeout_s))


def check(settings: ServersCheck) -> None:
    """Print a line for each finding; exit with 1 where a run would be refused.

    Raises:
        ValueError: no server is named.
        ServersUnavailableError: a server that does not answer.
    """
    from s2t_eval.remote.probe import examine
    from s2t_eval.remote.settings import RemoteSettings, server_urls

    urls = {"student_url": settings.student_url, "teacher_url": settings.teacher_url}
    named = {name: server_urls(f"--{name}", text) if text else () for name, text in urls.items()}
    if not any(named.values()):
        raise ValueError("expected --student_url URL, --teacher_url URL or both, got neither")
    remote = RemoteSettings(timeout_s=settings.timeout_s)
    reports = examine(named["student_url"], named["teacher_url"], remote)
    for report in reports:
        server = report.server
        print(f"{report.role} server {server.url}: {server.model}, up to {server.max_length} tokens")
        for finding in report.findings:
            mark = "ok" if finding.is_present else "failed" if finding.is_needed else "note"
            print(f"  {mark:7}{finding.name:14}{finding.message}")
    if any(report.faults for report in reports):
        raise SystemExit(1)
