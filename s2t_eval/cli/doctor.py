"""`s2t-eval doctor`: what this machine has, what works on it, and what to do where something does not."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Print what this machine has and what works on it.

    Exit codes: 0 the essentials work, 1 they do not (a line marked `failed`).

    Args:
        json: print JSON.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval doctor --json"

    json: bool = False

    def run(self) -> None:
        """Print a line a check; exit with 1 where something essential does not work."""
        from rich.console import Console

        from s2t_eval.cli.machine import Status, examine

        checks = examine()
        works = all(check.status is not Status.FAILED for check in checks)
        if self.json:
            lines = [
                {"name": c.name, "status": c.status.value, "message": c.message, **c.values} for c in checks
            ]
            print(json.dumps({"works": works, "checks": lines}, indent=1, ensure_ascii=False))
        else:
            styles = {Status.OK: "green", Status.NOTE: "yellow", Status.FAILED: "bold red"}
            console = Console(force_terminal=sys.stdout.isatty(), highlight=False, markup=False, emoji=False)
            for check in checks:
                console.print(f"{check.status.value:8}", style=styles[check.status], end="")
                console.print(f"{check.name:14}{check.message}", soft_wrap=True)
        if not works:
            raise SystemExit(1)
