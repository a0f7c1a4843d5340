"""Commands in processes of their own that start at once.

A fresh interpreter imports torch, transformers and lm_eval for many seconds before it does anything. The
processes here are forked from one that has imported them and done nothing else (the fork server of
multiprocessing). What a start itself does, such as the hook and the order of imports, is tested with fresh
interpreters.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

PRELOADED = [
    "lm_eval.evaluator",
    "s2t_eval.cli",
    "s2t_eval.model_wrappers.s2t_local",
    "tests.harness_helpers",
]


def run_forked(
    *command: str | Path, folder: Path, seconds: float = 300, **environment: str
) -> CompletedProcess[str]:
    """Run `-m MODULE ARGUMENTS…` or `-c CODE ARGUMENTS…` in a folder, as `subprocess.run` would."""
    said = [folder / f"{os.urandom(4).hex()}.{name}" for name in ("stdout", "stderr")]
    process = start_forked(*command, folder=folder, said=said, **environment)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{command}: it did not end within {seconds} seconds")
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in said]
    for path in said:
        path.unlink()
    assert process.exitcode is not None
    return CompletedProcess(list(map(str, command)), process.exitcode, *texts)


def start_forked(
    *command: str | Path, folder: Path, said: Sequence[Path] = (), **environment: str
) -> BaseProcess:
    """Start such a process; what it prints goes into the two files, without them nowhere."""
    process = _context().Process(
        target=_run,
        args=(list(map(str, command)), str(folder), [str(path) for path in said], dict(environment)),
        daemon=False,
    )
    process.start()
    return process


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _run(command: Sequence[str], folder: str, said: Sequence[str], environment: Mapping[str, str]) -> None:
    os.setpgid(0, 0)
    for number, path in zip((1, 2), said or (os.devnull, os.devnull), strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.pop("S2T_EVAL_NO_HOOK", None)
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", **environment})
    os.chdir(folder)
    how, what, *arguments = command
    sys.argv = [what if how == "-m" else how, *arguments]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
