"""Results small enough to commit: one file for each run, with a line for each document."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.method_table import ADDRESSES
from s2t_eval.report.documents import format_documents
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.kept_texts import SUFFIX, KeptText, texts_of, write_texts
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs

PATH = re.compile(r"(?<![\w.:/])/(?:[\w.@+ -]+/)+([\w.@+-]+)")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
SERVER_ARGUMENT = re.compile(rf"\b({'|'.join(ADDRESSES)})=[^,\s]+")
SERVER = "SERVER"
"""In kept files, for the address of a server, which is a machine of the user's network."""
SANITIZED, PATH_SANITIZED = "model_name_sanitized", re.compile(r"^__.*__")
"""lm_eval's name of the output folder, with `__` for each slash, and what it has of an absolute path."""
LEFT_OUT = ("pretty_env_info", "upper_git_hash", "model_source")


def write_baselines(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write `FOLDER/NAME.json` for each results file that the runs come from, readable by `read_runs`.

    The texts go beside it, into `NAME.texts.jsonl.gz` and, of a large run, further parts, where the run has
    samples or texts that were kept.

    Raises:
        ResultsError: samples were not kept; nothing is written then.
        ValueError: two files of one name, upon which nothing is written, or a single text of more than 2 MB.
    """
    kept: dict[Path, tuple[str, list[KeptText] | None]] = {}
    for source in dict.fromkeys(run.source for run in runs):
        tasks = [run for run in runs if run.source == source]
        path = folder / f"{tasks[0].name}.json"
        if path in kept:
            raise ValueError(f"two runs are named {tasks[0].name!r}: {source} and another; rename a folder")
        content = baseline(tasks[0].results, {run.task: _documents(run) for run in tasks})
        kept[path] = json.dumps(content, indent=1, ensure_ascii=False) + "\n", texts_of(source)
    for path, (content_text, texts) in kept.items():
        # The results come last: without them nothing reads the texts.
        if texts is not None:
            write_texts(path.with_name(path.stem + SUFFIX), texts)
        write_text(path, content_text)
    return list(kept)


def require_no_other_run(runs: Sequence[Run], folder: Path) -> None:
    """Raise `ValueError` where `FOLDER/NAME.json`, as which a run would be kept, holds another one.

    A run of the same thing (`Run.identity`), which renews what was kept, passes.

    Args:
        runs: to be kept.
        folder: where `write_baselines` will write them.

    Raises:
        ResultsError: samples were not kept.
    """
    for source in dict.fromkeys(run.source for run in runs):
        tasks = [run for run in runs if run.source == source]
        path = folder / f"{tasks[0].name}.json"
        if not path.exists():
            continue
        with TemporaryDirectory(prefix="s2t-eval-") as temporary:
            # Paths are cut from what is kept, which are a part of the identity.
            new = Path(temporary) / path.name
            content = baseline(tasks[0].results, {run.task: _documents(run) for run in tasks})
            new.write_text(json.dumps(content), encoding="utf-8")
            if _identities(path) != _identities(new):
                raise ValueError(
                    f"--out: {path} holds a run of another model, task or setting than {source}; name "
                    "another folder, or rename the run's"
                )


def _identities(path: Path) -> set[tuple[object, ...]]:
    """What the runs of a results file are of; empty for a file of something else."""
    try:
        with redirect_stderr(StringIO()):  # the notes on these runs are shown where they are read first
            return {run.identity for run in read_runs([path])}
    except ResultsError:
        return set()


def is_kept_run(path: Path) -> bool:
    """Whether a JSON file is one that `write_baselines` wrote."""
    try:
        return "documents" in read_object(path)
    except (OSError, ValueError):
        return False


def baseline(results: dict[str, Any], documents: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """A results file without paths and addresses of machines, with the documents of each task as lines."""
    lines = {task: format_documents(frame) for task, frame in documents.items()}
    return {**without_paths(results), "documents": lines}


def _documents(run: Run) -> pd.DataFrame:
    return run.scored if run.documents is None else run.documents  # `scored` raises the right error


def without_paths(value: Any) -> Any:
    """The same JSON value: absolute paths cut to their last part, no addresses of servers and functions."""
    if isinstance(value, dict):
        return {key: _without_paths(key, v) for key, v in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    if not isinstance(value, str):
        return value
    return ADDRESS.sub("", PATH.sub(r"\1", SERVER_ARGUMENT.sub(rf"\1={SERVER}", value)))


def _without_paths(key: str, value: Any) -> Any:
    """`without_paths` of an entry; some have their form by their name."""
    if key in ADDRESSES and value:
        return SERVER
    if key == SANITIZED and isinstance(value, str):
        return PATH_SANITIZED.sub("", value)
    return without_paths(value)
