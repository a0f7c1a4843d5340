"""Checks of output paths before any work is done.

Write permission is tested by creating a temporary file: for root `os.access` returns True even on a
read-only file system.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

OUT = "--out"
"""The flag of every command that writes a folder, in messages."""


def require_writable_file(name: str, path: Path) -> None:
    """Raise `ValueError` unless a file can be written to `path`; it may exist already.

    Args:
        name: name of the flag or argument in the message.
        path: the file to be written.
    """
    place = _OutputPath(name, path)
    if place.kind() == "folder":
        raise ValueError(f"{name}: {path} is a folder; expected the name of a file to write")
    place.require_parent()
    place.require_writable(path.parent)


def require_new_folder(path: Path) -> None:
    """Raise `ValueError` unless `path` is an empty folder, or does not exist and can be created.

    Args:
        path: the folder to be written, that of `--out`.
    """
    place = _OutputPath(OUT, path)
    if not path.name:
        raise ValueError(
            f"{OUT}: {path} has no name of its own; name a folder to make, such as {path / 'out'}"
        )
    place.require_no_file()
    exists = place.kind() == "folder"
    if exists and not place.is_empty():
        raise ValueError(f"{OUT}: {path} exists; name another folder")
    place.require_parent()
    place.require_writable(path.parent)
    if exists:
        require_replaceable(path)


def require_replaceable(path: Path) -> None:
    """Raise `ValueError` unless a folder can be replaced as a whole, as results are; a mount point cannot.

    Nothing is moved: the folder is renamed to one that is not empty, which fails for that reason alone where
    nothing else speaks against it. `Path.is_mount` is False for a folder of the same file system that is
    mounted there, as containers do.

    Args:
        path: a folder, that of `--out`, whose parent folder is writable.
    """
    folder = Path(os.path.realpath(path))
    with tempfile.TemporaryDirectory(dir=folder.parent) as other:
        (Path(other) / "file").touch()
        try:
            os.rename(folder, other)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise ValueError(
                f"{OUT}: {path} cannot be replaced by the result ({error.strerror}), as a mount point "
                f"cannot; name a folder in it, such as {path / 'out'}"
            ) from error


def require_reusable_folder(
    path: Path, description: str, patterns: Sequence[str], parents: bool = True
) -> None:
    """Raise `ValueError` unless the folder is new, empty, or one that the same command wrote.

    Args:
        path: the folder to write to, that of `--out`.
        description: description of the folders that may be reused, for the message.
        patterns: glob patterns; a folder that contains a match for one of them may be reused.
        parents: whether missing parent folders will be created; default True.
    """
    place = _OutputPath(OUT, path)
    place.require_no_file()
    if place.kind() == "folder":
        if not place.is_empty() and not any(_has_match(path, pattern) for pattern in patterns):
            raise ValueError(
                f"{OUT}: {path} holds other files; expected a new or empty folder, or {description}; "
                "name another"
            )
        place.require_writable(path)
        return
    if not parents:
        place.require_parent()
    place.require_writable(place.nearest_existing_parent())


def require_unfinished_labels(path: Path, command: str) -> None:
    """Raise `ValueError` unless the folder is new, empty, or holds labels that a command has not finished.

    Args:
        path: the folder to write to, that of `--out`.
        command: which writes it, for the message.
    """
    require_no_labels(path)
    description = f"an unfinished one of `{command}`"
    require_reusable_folder(path, description, ["work/settings.json"], parents=False)


def require_no_labels(path: Path, error: type[ValueError] = ValueError) -> None:
    """Raise `error` where a folder holds a finished label set.

    Args:
        path: the folder, that of `--out`.
        error: class of the error.
    """
    if (path / "manifest.json").exists():
        raise error(f"{OUT} {path}: it holds a finished label set; name another folder")


def _has_match(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


class _OutputPath:
    """An output path and the checks on it; messages include the operating system's reason."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def kind(self) -> str:
        """What exists at the path: `folder`, `file` or `nothing`."""
        try:
            if self.path.is_dir():
                return "folder"
            return "file" if self.path.exists() or self.path.is_symlink() else "nothing"
        except OSError as error:
            raise self._write_error(error) from error

    def is_empty(self) -> bool:
        """Whether the folder, which exists, is empty."""
        try:
            return next(self.path.iterdir(), None) is None
        except OSError as error:
            raise self._write_error(error) from error

    def nearest_existing_parent(self) -> Path:
        """The nearest parent folder that exists."""
        for folder in self.path.absolute().parents:
            if folder.is_dir():
                return folder
            if folder.exists():
                raise ValueError(f"{self.name}: {folder} is a file; {self.path} cannot lie in it")
        return Path(self.path.absolute().anchor)

    def require_no_file(self) -> None:
        """Raise `ValueError` if the path is a file."""
        if self.kind() == "file":
            raise ValueError(f"{self.name}: {self.path} is a file; expected a folder to write")

    def require_parent(self) -> None:
        """Raise `ValueError` if the parent folder is missing."""
        if not self.path.parent.is_dir():
            raise ValueError(
                f"{self.name}: there is no folder {self.path.parent} to write {self.path.name} to"
            )

    def require_writable(self, folder: Path) -> None:
        """Raise `ValueError` unless a file can be created in this folder."""
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> ValueError:
        reason = error.strerror or type(error).__name__
        return ValueError(f"{self.name}: cannot write to {self.path}: {reason}; name another place")
