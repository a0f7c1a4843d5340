"""What a stage depends on, as short hashes: files, models, benchmark data, and the package itself."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import s2t_eval
from s2t_eval.artifacts.code import PACKAGE, code_identity
from s2t_eval.artifacts.content import content_hash
from s2t_eval.embedded import resolve_model
from s2t_eval.evaluation import benchmark_data
from s2t_eval.evaluation.data import Source

DATA_FOLDERS = {
    name.lower(): source.folder for name, source in vars(benchmark_data).items() if isinstance(source, Source)
}
"""Task without `s2t_` and `_dev` -> its folder below S2T_DATA; a test compares it with the tasks' own."""
BUILT_IN = ("arith",)


def model_hash(name: str, revision: str | None) -> str:
    """What a model is recognised by: its files, or for one of the hub its name and revision."""
    place = model_place(name)
    if place is None:
        return f"hub:{name}@{revision}" if revision else f"hub:{name}"
    return str(content_hash(place))


def model_place(name: str) -> Path | None:
    """Where a model's files lie on this machine; None for a name of the hub."""
    path = Path(resolve_model(name)).expanduser()
    return path if path.exists() else None


def name_on_command_lines(model: str) -> str:
    """What a recipe's model is called in the commands: its folder where it is one, else its name."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.exists() else model


def data_identity(task: str) -> str | None:
    """Hash of the local data of one of our tasks; None for hub data and built-in problems."""
    folder = data_folder(task)
    return None if folder is None else content_hash(folder)


def data_folder(task: str) -> Path | None:
    """Where the local data of one of our tasks lie; None for hub data and built-in problems.

    A name of ours that is not known, such as a task of the user's own, may read anything below S2T_DATA.
    """
    place = os.environ.get("S2T_DATA")
    if place is None or not task.startswith("s2t_"):
        return None
    name = task.removeprefix("s2t_").removesuffix("_dev")
    if name in BUILT_IN:
        return None
    return Path(place).expanduser() / DATA_FOLDERS.get(name, "")


@cache
def package_identity() -> dict[str, str | None]:
    """The commit that the package's files are of, its version, and a hash where no commit has these files.

    `commit` is None for an installed package; `changes` is the hash of its code there, and in a checkout
    whose code differs from the commit.
    """
    return {"version": s2t_eval.__version__, **code_identity(PACKAGE)}
