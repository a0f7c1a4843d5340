"""Runs the command of a stage: its output goes to a log, its progress bar is read from there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from s2t_eval.artifacts.child_process import module_environment
from s2t_eval.artifacts.software import STEPS_AT_ONCE

MARK = "S2T_EVAL_REPRODUCE"
"""Environment variable by which the processes of a killed run are recognised: the output folder."""
POLL_SECONDS = 0.1
TAIL_BYTES = 4096
BAR = re.compile(r"([^\r\n|:]*): +(\d+)%\|")
PASSED_OVER = ("Loading", "Fetching", "Writing", "Map", "Filter")
"""Beginnings of bars that are full long before a command's own work is done."""
STOP_SECONDS = 20.0
LAST_LINES = 3


class StageFailedError(ValueError):
    """A command that ended with an error."""


class Progress(NamedTuple):
    """How far a command is.

    Args:
        seconds: since it was started.
        phase: what its progress bar is of; empty where it shows none.
        share: of that bar, from 0 to 1.
        first_seconds, first_share: of this bar when it was first seen above 0. What was finished in front of
            that, such as texts from a response cache, is no measure of the rest.
    """

    seconds: float
    phase: str
    share: float
    first_seconds: float = 0.0
    first_share: float = 0.0

    @property
    def rest(self) -> float | None:
        """Seconds until the bar is full; None while it is too early for an estimate."""
        done = self.share - self.first_share
        return (self.seconds - self.first_seconds) * (1 - self.share) / done if done >= 0.02 else None


class RunningCommand:
    """`python -m COMMAND` at work.

    Args:
        name: of the stage, for messages.
        command: module and arguments.
        log: file that its output is added to.
        out: the output folder, which marks the process.
        at_once: how many commands may be at work; a run's results keep it.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, out: Path, at_once: int = 1) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", *command]
        self.began = time.monotonic()
        self.first: Progress | None = None
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(words)}\n".encode())
            file.flush()
            self.log_begin = file.tell()
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**module_environment(), MARK: str(out.resolve()), STEPS_AT_ONCE: str(at_once)},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the other one
            )
        self.note = _running_folder(out) / str(self.process.pid)
        try:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            self.note.touch()
        except BaseException:
            self.stop()
            raise

    def has_ended(self) -> bool:
        """Whether it has ended without an error.

        Raises:
            StageFailedError: it ended with an error; the message holds the last of what it printed.
        """
        code = self.process.poll()
        if code is None:
            if self.first is None:
                self.progress()  # from here on the rate is measured
            return False
        self.note.unlink(missing_ok=True)
        if code:
            raise StageFailedError(
                f"{self.name} failed (exit code {code}): {_last_lines(self.log, self.log_begin)}; "
                f"all of it is in {self.log}"
            )
        return True

    def progress(self) -> Progress:
        """How far it is."""
        now = _progress(self.log, self.log_begin, time.monotonic() - self.began)
        if now.share and (self.first is None or self.first.phase != now.phase):
            self.first = now
        first = self.first if self.first is not None and self.first.phase == now.phase else now
        return now._replace(first_seconds=first.seconds, first_share=first.share)

    def stop(self) -> None:
        """End it and what it started: first as Ctrl-C would, in the end by force."""
        _stop(self.process)
        self.note.unlink(missing_ok=True)


def _progress(log: Path, begin: int, seconds: float) -> Progress:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    bars = [(phase.strip(), percent) for phase, percent in BAR.findall(text)]
    bars = [bar for bar in bars if not bar[0].startswith(PASSED_OVER)]
    phase, percent = bars[-1] if bars else ("", "0")
    return Progress(seconds, phase, int(percent) / 100)


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip() and not BAR.search(line)]
    return " / ".join(lines[-LAST_LINES:]) or "it printed nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started: first as Ctrl-C would, in the end by force.

    A shell lets the jobs that a script starts with `&` ignore Ctrl-C, and so do the commands that they start.
    """
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for sign in (*(() if is_ignored else (signal.SIGINT,)), signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue


def end_marked(out: Path) -> int:
    """End the processes that a killed run of this output folder has left behind; returns how many.

    They are found by their environment, so that no other process can match. Where there is no /proc
    none is found; see `require_none_running`.
    """
    mark = f"{MARK}={out.resolve()}".encode()
    ended = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = mark in (folder / "environ").read_bytes().split(b"\0")
            if is_marked and int(folder.name) != os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
                ended.append(folder)
        except (OSError, ProcessLookupError):
            continue  # it has ended, or is another user's
    end = time.monotonic() + STOP_SECONDS
    while any(map(is_alive, ended)) and time.monotonic() < end:
        time.sleep(0.05)
    return len(ended)


def require_none_running(out: Path) -> None:
    """Raise `StageFailedError` where a step of a killed run goes on: where there is no /proc to end it by.

    Args:
        out: the output folder, after `end_marked`.
    """
    for note in _running_folder(out).glob("*"):
        try:
            group = int(note.name)
            os.killpg(group, 0)
        except (ProcessLookupError, ValueError):
            note.unlink(missing_ok=True)
            continue
        except PermissionError:  # the number belongs to somebody else's process by now
            continue
        if not Path("/proc/self/environ").exists():
            raise StageFailedError(
                f"--out {out}: a step of an interrupted run is still at work; wait for it, or end it with "
                f"`kill -TERM -- -{group}`"
            )


def _running_folder(out: Path) -> Path:
    """Holds an empty file for the process group of each command at work, named by its number."""
    return out / "state" / "processes"


def is_alive(folder: Path) -> bool:
    """Whether a process still runs: a zombie, which no parent has waited for yet, does not."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
