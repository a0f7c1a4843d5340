"""What a program may use, and what became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MIB = 1 << 20
MOST_REASON = 400


@dataclass(frozen=True)
class Limits:
    """Limits of one program.

    Args:
        wall_seconds: from the program's start to the end of its checks; more than twice the processor
            time, so that a busy machine fails nobody.
        cpu_seconds: processor time of the program, whole seconds.
        memory_bytes: address space of the program, which is a single process.
        file_bytes: size of any one file it writes.
        disk_bytes: all files in its private /tmp together.
        processes: threads and processes together where no system-call filter refuses them all.
        message_bytes: largest argument or result of one call, written out.
    """

    wall_seconds: float = 20.0
    cpu_seconds: int = 8
    memory_bytes: int = 1024 * MIB
    file_bytes: int = 16 * MIB
    disk_bytes: int = 64 * MIB
    processes: int = 64
    message_bytes: int = 8 * MIB

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"limits: expected {name} above 0, got {value}")


@dataclass(frozen=True)
class Program:
    """A program and the checks that it has to pass.

    Args:
        source: generated, hostile.
        checks: trusted; names that they use and nobody defines are functions of the program.
        prelude: trusted; what the checks may use besides, such as the helpers of a problem's text.
        functions: names that mean the program's functions even where the prelude has them.
    """

    source: str
    checks: str
    prelude: str = ""
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Args:
        passed: whether every check ran and held; None where nobody can know (the machine could not
            start a sandbox, or someone killed it from outside): unscored, not failed. What the program
            itself does never leads to None.
        reason: one line of at most `MOST_REASON` characters, all of them printable.
        seconds: wall clock.
        sandbox: what it ran in.
    """

    passed: bool | None
    reason: str
    seconds: float
    sandbox: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def one_line(text: str) -> str:
    """A text as one printable line of limited length: lone surrogates and control characters escaped."""
    words = " ".join(text[: 4 * MOST_REASON].split())
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    return printable if len(printable) <= MOST_REASON else printable[: MOST_REASON - 3] + "..."
