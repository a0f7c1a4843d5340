"""Sandboxed execution of generated Python programs and their checks.

    from s2t_eval.evaluation.sandbox import Program, run_programs

    run_programs([Program("def add(a, b): return a + b", "assert add(2, 3) == 5")])

A program runs in a bubblewrap sandbox: one process with one thread, no network, no environment variables, no
access to the user's files, a read-only file system with a private /tmp, and limits on time, memory and files.
Its checks run in a second sandbox, in a process that the program cannot reach. They call the program's
functions through a pipe and receive plain data. The program therefore cannot print a success message,
override an assertion or forge an exit status; it passes only if the real checks ran to the end.

Checks of stock tasks that use more of a program than its functions run in its process instead
(`Program.shares_process`). There, too, output and exit status prove nothing, but it could alter its checks.

Everything that a program causes is a failure. Problems of the machine (no free process, a sandbox that does
not start or is killed from outside) give no verdict, and a sandbox that stops working ends the run.
"""

from s2t_eval.evaluation.sandbox.isolation import (
    Isolation,
    SandboxFailedError,
    SandboxUnavailableError,
    bubblewrap_candidates,
    find_isolation,
)
from s2t_eval.evaluation.sandbox.limits import Limits, Program, ProgramVerdict
from s2t_eval.evaluation.sandbox.pool import run_programs, usable_cores
from s2t_eval.evaluation.sandbox.separability import are_separable
from s2t_eval.evaluation.sandbox.session import Session

__all__ = [
    "Isolation",
    "Limits",
    "Program",
    "ProgramVerdict",
    "SandboxFailedError",
    "SandboxUnavailableError",
    "Session",
    "are_separable",
    "bubblewrap_candidates",
    "find_isolation",
    "run_programs",
    "usable_cores",
]
