"""Runs generated Python where it can do no harm, and says whether its checks held.

    from s2t_eval.evaluation.sandbox import Program, run_programs

    run_programs([Program("def add(a, b): return a + b", "assert add(2, 3) == 5")])

A program runs in a bubblewrap sandbox: one process with one thread, without network, environment or
view of the user's files, a read-only file system with a private /tmp, limits on time, memory and files. Its
checks run in another sandbox, in a process that the program cannot reach: they call its functions
over a pipe and get plain data back. So there is no success mark to print, no assert to override
and no exit status to forge, and a program passes only if the real checks ran to the end. Whatever a
program causes is a failure; what the machine causes (no process to spare, a sandbox that does not start
or is killed from outside) is no verdict, and a sandbox that works no longer ends the run.
"""

from s2t_eval.evaluation.sandbox.isolation import (
    Isolation,
    SandboxFailedError,
    SandboxUnavailableError,
    bubblewrap_candidates,
    find_isolation,
)
from s2t_eval.evaluation.sandbox.limits import Limits, Program, Verdict
from s2t_eval.evaluation.sandbox.pool import run_programs, usable_cores
from s2t_eval.evaluation.sandbox.session import Session

__all__ = [
    "Isolation",
    "Limits",
    "Program",
    "SandboxFailedError",
    "SandboxUnavailableError",
    "Session",
    "Verdict",
    "bubblewrap_candidates",
    "find_isolation",
    "run_programs",
    "usable_cores",
]
