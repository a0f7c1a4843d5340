"""Lines to and from a process that may be hostile: a limit on their length, a deadline on waiting."""

from __future__ import annotations

import os
import select
import subprocess
import time


class ClosedError(Exception):
    """The other side is gone."""


class TooLongError(Exception):
    """A line that is longer than allowed; its text is how many bytes are."""


class LateError(Exception):
    """The deadline passed."""


class Lines:
    """Both pipes of a process, one line at a time.

    Args:
        process: started with pipes as its standard input and output, unbuffered.
        most: longest line that is read, in bytes.
    """

    def __init__(self, process: subprocess.Popen[bytes], most: int) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._out = process.stdin.fileno()
        self._in = process.stdout.fileno()
        self._most = most
        self._rest = b""
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)

    def send(self, line: bytes, deadline: float) -> None:
        """Write a line that ends in its newline.

        Raises:
            ClosedError: nobody reads any more.
            LateError: the reader does not take it in time.
        """
        left = memoryview(line)
        while left:
            _wait(self._out, select.POLLOUT, deadline)
            try:
                left = left[os.write(self._out, left[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ClosedError from error

    def receive(self, deadline: float) -> bytes:
        """The next line, its newline included.

        Raises:
            ClosedError: the pipe ended before it.
            TooLongError: it is too long.
            LateError: it did not come in time.
        """
        pieces, size = [self._rest], len(self._rest)
        while b"\n" not in pieces[-1]:
            if size > self._most:
                raise TooLongError(self._most)
            _wait(self._in, select.POLLIN, deadline)
            try:
                piece = os.read(self._in, 1 << 16)
            except BlockingIOError:
                continue
            if not piece:
                raise ClosedError
            pieces.append(piece)
            size += len(piece)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line + b"\n"


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise LateError
