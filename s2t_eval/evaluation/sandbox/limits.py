"""Data types of the sandbox: resource limits, programs and verdicts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MIB = 1 << 20
MAX_REASON_LENGTH = 400
UNCHECKABLE = "the checks cannot run in a sandbox"
"""Begin of the reason of a verdict for checks that fail to work for any program."""


@dataclass(frozen=True)
class Limits:
    """Resource limits of one program.

    Args:
        wall_seconds: wall-clock time in seconds from the program's start to the end of its checks; default
            20, more than twice the processor time, so that programs do not fail on a busy machine.
        cpu_seconds: processor time in whole seconds; default 8.
        memory_bytes: address space in bytes; default 1 GiB.
        file_bytes: maximum size of a written file in bytes; default 16 MiB.
        disk_bytes: total size of the files in the private /tmp in bytes; default 64 MiB.
        processes: number of processes and threads where no system-call filter denies new ones; default 64.
        message_bytes: maximum size in bytes of the encoded arguments or result of a call; default 8 MiB.

    Raises:
        ValueError: a limit is not positive.
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
    """A program and its checks.

    Args:
        source: untrusted source text of the program.
        checks: trusted source text; undefined names in it refer to functions of the program.
        prelude: trusted definitions for the checks, such as a prompt's helpers; default empty.
        functions: names that refer to the program's functions even if the prelude defines them; default none.
        shares_process: whether the checks run in the program's process and namespace, as the metric
            `code_eval` runs them; default False. Such checks may use everything of the program, and a program
            that is written to deceive them can; `prelude` and `functions` are not used.
    """

    source: str
    checks: str
    prelude: str = ""
    functions: tuple[str, ...] = ()
    shares_process: bool = False


@dataclass(frozen=True)
class ProgramVerdict:
    """The result of running a program.

    Args:
        passed: whether every check ran and succeeded; None (unscored) if the machine could not start a
            sandbox, the sandbox was killed from outside, or the checks need what no sandbox gives them.
            Behaviour of the program never leads to None.
        reason: one printable line of at most `MAX_REASON_LENGTH` characters.
        seconds: wall-clock time in seconds.
        sandbox: name and version of the sandbox.
    """

    passed: bool | None
    reason: str
    seconds: float
    sandbox: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", to_printable_line(self.reason))

    @property
    def is_uncheckable(self) -> bool:
        """Whether there is no verdict because the checks cannot run, whatever the program does."""
        return self.passed is None and self.reason.startswith(UNCHECKABLE)

    def as_json(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return asdict(self)


def to_printable_line(text: str) -> str:
    """Convert a text to one printable line of limited length; other characters are escaped."""
    words = " ".join(text[: 4 * MAX_REASON_LENGTH].split())
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    return printable if len(printable) <= MAX_REASON_LENGTH else printable[: MAX_REASON_LENGTH - 3] + "..."
