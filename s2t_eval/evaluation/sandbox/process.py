"""A started script of the folder `inside`, and how to end it without leaving a zombie."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess

SHORTAGES = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
"""Errors of a machine that has run out of processes, memory, files or namespaces for the moment."""
OUTER_SECONDS = 5.0


class NotStartedError(Exception):
    """A sandbox in which nothing was run yet: whatever the cause is, it is not the program.

    Args:
        why: one line.
        is_shortage: the machine lacks something for the moment, and waiting may help.
    """

    def __init__(self, why: str, is_shortage: bool) -> None:
        super().__init__(why)
        self.is_shortage = is_shortage


def is_shortage(message: str) -> bool:
    """Whether a program's error message is about something that the machine lacks for the moment."""
    return any(os.strerror(number) in message for number in SHORTAGES)


class SandboxProcess:
    """A running script with pipes as its standard streams.

    Args:
        popen: bubblewrap, or Python itself where there is no isolation.
        info: descriptor to which bubblewrap's `--info-fd` is connected, None without isolation.
    """

    def __init__(self, popen: subprocess.Popen[bytes], info: int | None) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._info = info

    def not_started(self) -> NotStartedError:
        """Why nothing was run: the last line that bubblewrap or Python wrote, and the exit status."""
        try:
            status = str(self.popen.wait(OUTER_SECONDS))
        except subprocess.TimeoutExpired:
            status = "none yet"
        assert self.popen.stderr is not None
        os.set_blocking(self.popen.stderr.fileno(), False)
        written = (self.popen.stderr.read(1 << 12) or b"").decode(errors="replace").strip()
        last = written.rpartition("\n")[2][:200] or "no message"
        return NotStartedError(f"{last}, exit status {status}", is_shortage(written))

    def end(self) -> None:
        """Kill the process and all that it started, and wait until they are gone.

        Bubblewrap's child is killed and bubblewrap waits for it: were bubblewrap killed first, its
        child would go to process 1, which in a plain container waits for nobody.
        """
        if self._info is not None and self.popen.poll() is None and self._kill_child():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(OUTER_SECONDS)
        if self._info is None or self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
        if self._info is not None:
            os.close(self._info)
            self._info = None

    def _kill_child(self) -> bool:
        """Kill process 1 of the sandbox, with which all others in it end; False where it is not known."""
        pid = self._child_pid()
        if pid is None:
            return False
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            # The handle is open before the parent is looked at, so that it cannot be of a later process
            # that was given the same number.
            if _parent_of(pid) != self.pid:
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def _child_pid(self) -> int | None:
        assert self._info is not None
        try:
            written = os.read(self._info, 1 << 12)
        except BlockingIOError:
            return None  # bubblewrap has not come so far as to write it
        found = re.search(rb'"child-pid": (\d+)', written)
        return int(found[1]) if found else None


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])
