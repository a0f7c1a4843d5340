"""Whether something can be written to a place, found out before any work is done.

Permissions are tried and not looked up: root may write where `os.access` says so and the file system does
not allow it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path


def require_file_place(name: str, path: Path) -> None:
    """Raise `ValueError` unless a file can be written there; a file of that name will be replaced.

    Args:
        name: of the flag or argument, for the message.
        path: the file to be.
    """
    with_reason = _Reasons(name, path)
    if with_reason.kind() == "folder":
        raise ValueError(f"{name}: {path} is a folder; expected the name of a file to write")
    with_reason.require_parent()
    with_reason.require_writable(path.parent)


def require_new_folder(name: str, path: Path) -> None:
    """Raise `ValueError` unless a folder can be made there: nothing is there yet, or an empty folder."""
    reasons = _Reasons(name, path)
    reasons.require_no_file()
    if reasons.kind() == "folder" and not reasons.is_empty():
        raise ValueError(f"{name}: {path} exists; name another folder")
    reasons.require_parent()
    reasons.require_writable(path.parent)


def require_own_folder(name: str, path: Path, what: str, signs: Sequence[str], parents: bool = True) -> None:
    """Raise `ValueError` unless the folder is new, empty, or one that the same command wrote.

    Args:
        name: of the flag or argument, for the message.
        path: the folder to write to.
        what: which folders are ours, for the message.
        signs: glob patterns; a folder in which one of them finds something is ours.
        parents: whether the folders above it are made if need be.
    """
    reasons = _Reasons(name, path)
    reasons.require_no_file()
    if reasons.kind() == "folder":
        if not reasons.is_empty() and not any(_finds(path, sign) for sign in signs):
            raise ValueError(
                f"{name}: {path} holds other files; expected a new or empty folder, or {what}; name another"
            )
        reasons.require_writable(path)
        return
    if not parents:
        reasons.require_parent()
    reasons.require_writable(reasons.nearest())


def _finds(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


class _Reasons:
    """What there is at a place, with the system's own reason where it cannot be looked at."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def kind(self) -> str:
        """`folder`, `file` or `nothing`."""
        try:
            if self.path.is_dir():
                return "folder"
            return "file" if self.path.exists() or self.path.is_symlink() else "nothing"
        except OSError as error:
            raise self._cannot(error) from error

    def is_empty(self) -> bool:
        """Of a folder that is there."""
        try:
            return next(self.path.iterdir(), None) is None
        except OSError as error:
            raise self._cannot(error) from error

    def nearest(self) -> Path:
        """The nearest folder above that is there."""
        for folder in self.path.absolute().parents:
            if folder.is_dir():
                return folder
            if folder.exists():
                raise ValueError(f"{self.name}: {folder} is a file; {self.path} cannot lie in it")
        return Path(self.path.absolute().anchor)

    def require_no_file(self) -> None:
        """Raise `ValueError` for a file."""
        if self.kind() == "file":
            raise ValueError(f"{self.name}: {self.path} is a file; expected a folder to write")

    def require_parent(self) -> None:
        """Raise `ValueError` where the folder above is missing."""
        if not self.path.parent.is_dir():
            raise ValueError(
                f"{self.name}: there is no folder {self.path.parent} to write {self.path.name} to"
            )

    def require_writable(self, folder: Path) -> None:
        """Raise `ValueError` unless a file can be made in this folder."""
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: OSError) -> ValueError:
        reason = error.strerror or type(error).__name__
        return ValueError(f"{self.name}: cannot write to {self.path}: {reason}; name another place")
