"""Line-based communication with an untrusted process: limited line length, deadlines on every operation."""

from __future__ import annotations

import os
import select
import subprocess
import time


class PipeClosedError(Exception):
    """The other process closed the pipe."""


class LineTooLongError(Exception):
    """A line exceeds the limit, which is the exception's argument in bytes."""


class DeadlineError(Exception):
    """The deadline passed."""


class LinePipes:
    """The standard input and output of a process, read and written in lines.

    Args:
        process: started with unbuffered pipes as its standard input and output.
        max_line_bytes: maximum length of a received line in bytes.
    """

    def __init__(self, process: subprocess.Popen[bytes], max_line_bytes: int) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._out = process.stdin.fileno()
        self._in = process.stdout.fileno()
        self._max_line_bytes = max_line_bytes
        self._buffer = b""
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)

    def send(self, line: bytes, deadline: float) -> None:
        """Write a line.

        Args:
            line: the line with its newline.
            deadline: value of `time.monotonic()` until which it must be written.

        Raises:
            PipeClosedError: the process closed its standard input.
            DeadlineError: the process did not read the line in time.
        """
        remaining = memoryview(line)
        while remaining:
            _wait(self._out, select.POLLOUT, deadline)
            try:
                remaining = remaining[os.write(self._out, remaining[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise PipeClosedError from error

    def receive(self, deadline: float) -> bytes:
        """Read the next line, including its newline.

        Args:
            deadline: value of `time.monotonic()` until which it must arrive.

        Raises:
            PipeClosedError: the process closed its standard output before the end of the line.
            LineTooLongError: the line exceeds the limit.
            DeadlineError: the line did not arrive in time.
        """
        chunks, size = [self._buffer], len(self._buffer)
        while b"\n" not in chunks[-1]:
            if size > self._max_line_bytes:
                raise LineTooLongError(self._max_line_bytes)
            _wait(self._in, select.POLLIN, deadline)
            try:
                chunk = os.read(self._in, 1 << 16)
            except BlockingIOError:
                continue
            if not chunk:
                raise PipeClosedError
            chunks.append(chunk)
            size += len(chunk)
        line, _, self._buffer = b"".join(chunks).partition(b"\n")
        return line + b"\n"


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    remaining = deadline - time.monotonic()
    if remaining <= 0 or not poll.poll(remaining * 1000):
        raise DeadlineError
