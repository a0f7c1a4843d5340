"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from s2t_eval.places import require_file_place


class WriteError(ValueError):
    """A file that could not be written; what was there before is untouched."""


class TraceError(OSError):
    """A trace that could not be written; the message says how much of it is complete."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the name `path` once the block ends without an error.

    Works for folders too: one of that name is replaced as a whole.

    Raises:
        WriteError: the disk is full, gone or not writable.
    """
    partial = path.with_name(path.name + ".partial")
    _remove(partial)
    try:
        yield partial
        if partial.is_dir() and path.exists():
            old = path.with_name(path.name + ".old")
            _remove(old)
            os.replace(path, old)
            os.replace(partial, path)
            _remove(old)
        else:
            os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        _remove(partial)
        if isinstance(error, SafetensorError) and "I/O" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise WriteError(
            f"cannot write {path}: {reason}; make room (or name another place) and run again"
        ) from error
    except BaseException:
        _remove(partial)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    with replaced(path) as partial:
        partial.write_text(text)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
        require_file_place("trace", path)
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
