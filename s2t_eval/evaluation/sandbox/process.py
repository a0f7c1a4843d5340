"""A running script of the folder `inside`, and its termination without leaving a zombie process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess

SHORTAGE_ERRORS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
"""Errors of a machine that is temporarily out of processes, memory, files or namespaces."""
TERMINATION_SECONDS = 5.0


class NotStartedError(Exception):
    """The sandbox did not start, for a reason that is independent of the program.

    Args:
        reason: description in one line.
        is_shortage: whether the machine is temporarily out of a resource, so that waiting may help.
    """

    def __init__(self, reason: str, is_shortage: bool) -> None:
        super().__init__(reason)
        self.is_shortage = is_shortage


def is_shortage(message: str) -> bool:
    """Whether an error message reports that the machine is temporarily out of a resource."""
    return any(os.strerror(number) in message for number in SHORTAGE_ERRORS)


class SandboxProcess:
    """A running script whose standard streams are pipes.

    Args:
        popen: the process of bubblewrap, or of Python without isolation.
        info_fd: read end of the pipe of bubblewrap's `--info-fd`; None without isolation.
    """

    def __init__(self, popen: subprocess.Popen[bytes], info_fd: int | None) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._info_fd = info_fd

    def start_error(self) -> NotStartedError:
        """The error of a failed start: the last line of standard error and the exit status."""
        try:
            status = str(self.popen.wait(TERMINATION_SECONDS))
        except subprocess.TimeoutExpired:
            status = "none yet"
        assert self.popen.stderr is not None
        os.set_blocking(self.popen.stderr.fileno(), False)
        output = (self.popen.stderr.read(1 << 12) or b"").decode(errors="replace").strip()
        last = output.rpartition("\n")[2][:200] or "no message"
        return NotStartedError(f"{last}, exit status {status}", is_shortage(output))

    def terminate(self) -> None:
        """Kill the process and its descendants, and wait until they have ended.

        Bubblewrap's child is killed first, and bubblewrap waits for it. If bubblewrap were killed first, its
        child would become a child of process 1, which in a plain container does not reap zombies.
        """
        if self._info_fd is not None and self.popen.poll() is None and self._kill_child():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(TERMINATION_SECONDS)
        if self._info_fd is None or self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has already ended
                os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
        if self._info_fd is not None:
            os.close(self._info_fd)
            self._info_fd = None

    def _kill_child(self) -> bool:
        """Kill process 1 of the sandbox, which ends all others in it; False if its id is not known yet."""
        pid = self._child_pid()
        if pid is None:
            return False
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            # The handle is opened before the parent is checked, so that it cannot refer to a later process
            # with the same id.
            if _parent_of(pid) != self.pid:
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def _child_pid(self) -> int | None:
        assert self._info_fd is not None
        try:
            output = os.read(self._info_fd, 1 << 12)
        except BlockingIOError:
            return None  # bubblewrap has not written it yet
        match = re.search(rb'"child-pid": (\d+)', output)
        return int(match[1]) if match else None


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])
