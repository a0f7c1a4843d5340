"""Which code a process runs: the commit that has its files, and a hash of them where no commit has them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from s2t_eval.artifacts.content import content_hash, text_hash
from s2t_eval.artifacts.software import SOURCES, run_git

NO_CODE = (".pyc", ".pyo", ".safetensors", ".swp")
PACKAGE = Path(__file__).resolve().parents[1]


@cache
def present_code() -> str:
    """The code of this process in one word, for results and caches; see `code_word`.

    The result of the first call is kept: the caller asks when the process starts, and files may change later.
    """
    return code_word(PACKAGE)


def code_word(package: Path) -> str:
    """Equal for equal code alone: a commit, `COMMIT-dirty-HASH`, or `files-HASH` where there is no commit.

    Args:
        package: the folder `s2t_eval`, of a checkout or installed.
    """
    code = code_identity(package)
    commit, changes = code["commit"], code["changes"]
    if commit is None:
        return f"files-{changes}"
    return commit if changes is None else f"{commit}-dirty-{changes}"


def code_identity(package: Path) -> dict[str, str | None]:
    """The commit of a package's files, and a hash of them where no commit has them.

    A checkout is recognised by its files: git may be missing, or refuse the folder of another user.

    Args:
        package: the folder `s2t_eval`, of a checkout or installed.
    """
    root = package.parent
    is_checkout = all((root / name).is_dir() for name in SOURCES) and not (package / "tasks").exists()
    tracked = is_checkout and run_git(root, "ls-files", "--error-unmatch", "s2t_eval/__init__.py") is not None
    commit = run_git(root, "rev-parse", "HEAD") if tracked else None
    is_changed = commit is None or run_git(root, "status", "--porcelain", "--", *SOURCES) != ""
    folders = [root / name for name in SOURCES] if is_checkout else [package]
    return {"commit": commit, "changes": _code_hash(root, folders) if is_changed else None}


def _code_hash(root: Path, folders: Sequence[Path]) -> str:
    """A hash of every file but caches and weights, which are those of the models that a stage loads."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    code = [path for path in files if "__pycache__" not in path.parts and path.suffix not in NO_CODE]
    return text_hash([(path.relative_to(root).as_posix(), content_hash(path)) for path in sorted(code)])
