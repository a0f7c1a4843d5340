"""Atomic writing of files and folders, and the writer of traces."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from s2t_eval.artifacts.output_paths import require_writable_file

ENCODING_ERRORS = "backslashreplace"
"""Lone surrogates, which UTF-8 cannot encode, are written as escapes: encoding them would raise an error."""


class WriteError(ValueError):
    """A file could not be written; its previous version is unchanged."""


class TraceError(OSError):
    """A trace could not be written; the message contains the number of complete lines."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when the block ends without an error.

    The block may write a file or create a folder; an existing folder of that name is replaced as a whole.
    After an error the temporary path is removed and `path` is unchanged. A symbolic link stays one: what it
    leads to is replaced, beside which the temporary path lies.

    Args:
        path: the final path.

    Raises:
        WriteError: the disk is full, no longer mounted or not writable.

    Example:
        >>> with atomic_path(Path("out.txt")) as partial:
        ...     partial.write_text("content")
    """
    named, path = path, Path(os.path.realpath(path)) if path.is_symlink() else path
    partial = path.with_name(path.name + ".partial")
    remove(partial)
    try:
        yield partial
        if partial.is_dir() and path.exists():
            old = path.with_name(path.name + ".old")
            remove(old)
            os.replace(path, old)
            os.replace(partial, path)
            remove(old)
        else:
            os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        remove(partial)
        if isinstance(error, SafetensorError) and "I/O" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise WriteError(
            f"cannot write {named}: {reason}; make room and run the same command again"
        ) from error
    except BaseException:
        remove(partial)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors=ENCODING_ERRORS)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_new_trace(path: Path) -> None:
    """Raise `ValueError` unless a new trace can be written to `path`; existing traces are not overwritten."""
    for existing in (path, _partial(path)):
        if existing.exists():
            raise ValueError(f"trace: {existing} exists; move it away or name another file")
    require_writable_file("trace", path)


def _partial(path: Path, rank: int = 0) -> Path:
    return path.with_name(path.name + (f".rank{rank}" if rank else "") + ".partial")


class TraceWriter:
    """Writes a trace: one JSON line for each generated text.

    During the run the file is `FILE.partial` and contains complete lines only, so that an interrupted run
    keeps its records; `finish` renames it. With several processes each writes its own file
    (`FILE.rank1.partial`, ...), and rank 0 appends the lines of the others at the end.

    Args:
        path: the trace to create.
        rank: rank of this process; default 0.

    Raises:
        ValueError: the file exists, or its folder is missing or not writable.
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
        """Append one record; if it cannot be written completely, the file is truncated to its previous end.

        Raises:
            TraceError: the disk is full or no longer mounted.
        """
        self._write_line(json.dumps(record, ensure_ascii=False) + "\n")

    def _write_line(self, line: str) -> None:
        if self._file is None:
            self._file = self._open()
        offset = self._file.tell()
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self._truncate_to(offset)
            raise TraceError(
                f"trace: cannot write {self.partial}: {error.strerror}; its {self.num_lines} lines "
                "are complete; make room (or leave trace= out) and run again"
            ) from error
        self.num_lines += 1

    def release_lines(self) -> list[str]:
        """Close this process's file and return its lines, for rank 0 to append; call `discard` afterwards."""
        if self._file is None:
            return []
        self._file.close()
        self._file = None
        with self.partial.open(encoding="utf-8", newline="\n") as file:
            return list(file)

    def discard(self) -> None:
        """Remove the file whose lines `release_lines` returned."""
        self.partial.unlink(missing_ok=True)
        self.num_lines = 0

    def finish(self, others: Iterable[str] = ()) -> None:
        """Close the file and rename it to its final name; a later `write` appends to the same file.

        Args:
            others: lines of the other processes, which are appended first.
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
            return self.partial.open("a", encoding="utf-8", errors=ENCODING_ERRORS)
        return self.partial.open("w", encoding="utf-8", errors=ENCODING_ERRORS)

    def _truncate_to(self, offset: int) -> None:
        assert self._file is not None
        descriptor = os.open(self.partial, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, offset)
        finally:
            os.close(descriptor)
        try:
            self._file.close()  # flushes the rejected line once more, and fails again
        except OSError:
            os.truncate(self.partial, offset)
        self._file = None
