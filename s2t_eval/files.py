"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TextIO


class TraceError(OSError):
    """A trace that could not be written; the message says how much of it is complete."""


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


class TraceWriter:
    """One JSON line a generated text. The file bears its name only when the run has ended.

    Until then it is `FILE.partial`, whole line by whole line, so that a broken run leaves what it had.

    Args:
        path: the file to make.

    Raises:
        ValueError: the file exists, or its folder does not.
    """

    def __init__(self, path: Path) -> None:
        partial = path.with_name(path.name + ".partial")
        for taken in (path, partial):
            if taken.exists():
                raise ValueError(f"trace: {taken} exists; move it away or name another file")
        if not path.parent.is_dir():
            raise ValueError(f"trace: there is no folder {path.parent} to write {path.name} to")
        self.path = path
        self.partial = partial
        self.num_lines = 0
        self._file: TextIO | None = None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; a line that does not fit is taken back.

        Raises:
            TraceError: the disk is full or gone.
        """
        if self._file is None:
            self._file = self._open()
        line = json.dumps(record, ensure_ascii=False) + "\n"
        begin = self._file.tell()
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self._give_up(begin)
            raise TraceError(
                f"trace: cannot write {self.partial}: {error.strerror}; its {self.num_lines} lines "
                "are complete; make room (or leave trace= out) and run again"
            ) from error
        self.num_lines += 1

    def finish(self) -> None:
        """Close the file and give it its name. A later `write` goes on with the same file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            os.replace(self.partial, self.path)

    def _open(self) -> TextIO:
        if self.num_lines:
            os.replace(self.path, self.partial)
            return self.partial.open("a", encoding="utf-8")
        return self.partial.open("w", encoding="utf-8")

    def _give_up(self, begin: int) -> None:
        assert self._file is not None
        descriptor = os.open(self.partial, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, begin)
        finally:
            os.close(descriptor)
        try:
            self._file.close()  # flushes the rejected line once more, and fails again
        except OSError:
            os.truncate(self.partial, begin)
        self._file = None
