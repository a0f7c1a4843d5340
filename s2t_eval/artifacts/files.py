"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from s2t_eval.artifacts.places import require_file_place

ESCAPED = "backslashreplace"
"""How a lone surrogate is written, which UTF-8 does not have: as JSON writes it, so that no file is lost."""


class WriteError(ValueError):
    """A file that could not be written; what was there before is untouched."""


class TraceError(OSError):
    """A trace that could not be written; the message says how much of it is complete."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
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
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors=ESCAPED)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_new_trace(path: Path) -> None:
    """Raise `ValueError` unless a trace can be made there: nothing is overwritten."""
    for taken in (path, _partial(path)):
        if taken.exists():
            raise ValueError(f"trace: {taken} exists; move it away or name another file")
    require_file_place("trace", path)


def _partial(path: Path, rank: int = 0) -> Path:
    return path.with_name(path.name + (f".rank{rank}" if rank else "") + ".partial")


class TraceWriter:
    """One JSON line a generated text. The file bears its name only when the run has ended.

    Until then it is `FILE.partial`, whole line by whole line, so that a broken run leaves what it had. Of
    several processes each writes a file of its own, `FILE.rank1.partial` and so on; at the end the first
    one takes the lines of all.

    Args:
        path: the file to make.
        rank: of this process.

    Raises:
        ValueError: the file exists, or its folder does not or is not writable.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        require_new_trace(path)
        self.path = path
        self.partial = _partial(path, rank)
        if self.partial.exists():
            raise ValueError(f"trace: {self.partial} exists; move it away or name another file")
        self.num_lines = 0
        self._file: TextIO | None = None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; a line that does not fit is taken back.

        Raises:
            TraceError: the disk is full or gone.
        """
        self._write_line(json.dumps(record, ensure_ascii=False) + "\n")

    def _write_line(self, line: str) -> None:
        if self._file is None:
            self._file = self._open()
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

    def hand_over(self) -> list[str]:
        """The lines of a process that is not the first, for it to take; `discard` follows."""
        if self._file is None:
            return []
        self._file.close()
        self._file = None
        with self.partial.open(encoding="utf-8", newline="\n") as file:
            return list(file)

    def discard(self) -> None:
        """Remove the lines that were handed over."""
        self.partial.unlink(missing_ok=True)
        self.num_lines = 0

    def finish(self, others: Iterable[str] = ()) -> None:
        """Close the file and give it its name. A later `write` goes on with the same file.

        Args:
            others: lines of other processes, to be added.
        """
        for line in others:
            self._write_line(line)
        if self._file is not None:
            self._file.close()
            self._file = None
            os.replace(self.partial, self.path)

    def _open(self) -> TextIO:
        if self.num_lines:
            os.replace(self.path, self.partial)
            return self.partial.open("a", encoding="utf-8", errors=ESCAPED)
        return self.partial.open("w", encoding="utf-8", errors=ESCAPED)

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
