"""Whether the runs of a table are of one commit, one dtype and one limit, and the caption that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from s2t_eval.method_table import STOCK
from s2t_eval.report.blocks import Entry
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.run import Run

UNKNOWN = "unknown"
KINDS = {"commit": "or unknown commits"}
"""Words of the message that are not the plain plural."""
AS_STATED = ", as stated"
"""End of the dtype of a model on a server, which does not report its own: the user's word for it."""
MAX_NAMES = 3
"""Runs that the message names for each value."""


def require_one_origin(entries: Sequence[Entry]) -> None:
    """Raise `NotComparableError`, in one line, unless all runs are of one commit, one dtype and one limit.

    The dtypes of students and of teachers are compared apart. A teacher alone may have been decoded by a
    server, which does not report its dtype: the user's word counts, and the caption says so. Other runs on
    servers are compared with runs on servers only, since two engines round differently.

    Two runs whose record names no one code (none, a changed commit without a hash, or a version alone)
    cannot be shown to be of one, so they count as two. Runs of lm_eval's own hf backend decode with none of
    our code and have no commit of it: they are left out of that comparison. A limit belongs to a benchmark:
    the limits of two benchmarks may differ.
    """
    mixed = [f"{KINDS.get(name, name + 's')}: {_named(values)}" for name, values in _mixed(entries).items()]
    if mixed:
        raise NotComparableError(
            f"the runs are of different {'; of different '.join(mixed)}; expected one commit, one dtype "
            "and one limit in a table; repeat the runs with one version of s2t-eval, or give --mixed, which "
            "names these differences below each table"
        )


def origin_note(entries: Sequence[Entry]) -> str:
    """The caption's sentences on commit, dtype, device and limits, with a warning where they differ."""
    runs = [entry.run for entry in entries]
    commits, dtypes, devices = (_by_value(runs, value) for value in (version_of, dtype_of, device_of))
    limits = [f"{title} {', '.join(_by_limit(part))}" for title, part in _by_benchmark(entries).items()]
    mixed = " and ".join(f"one {name}" for name in _mixed(entries))
    warning = f"These runs are not known to share {mixed}; differences may come from that. " if mixed else ""
    dtype, device = _with_teachers(runs, dtypes, "dtype"), _with_teachers(runs, devices, "device")
    is_served = any(e.is_teacher and dtype_of(e.run).endswith(AS_STATED) for e in entries)
    served = (
        "The teacher alone was decoded by a server, whose dtype is stated by the user. " if is_served else ""
    )
    return (
        f"{warning}{served}Commit: {', '.join(commits)}. Dtype: {dtype}. Device: {device}. "
        f"Limit of new tokens: {'; '.join(limits)}."
    )


def commit_of(run: Run) -> str:
    """The code of s2t-eval that made a run: its commit, with a hash of the code where no commit has it.

    Earlier versions recorded no hash: a changed commit, or the version of an installed package, does not
    identify the code. UNKNOWN where a run records nothing.
    """
    info = run.backend_info
    version = f"version {info.get('version', UNKNOWN)}"
    word = info.get("code") or info.get("commit")
    if word is None:
        return f"{version}, installed" if "commit" in info else UNKNOWN
    first, *changes = str(word).split("-")
    name = f"{version}, files" if first == "files" else first[:10]
    return "-".join([name, *(part[:8] for part in changes)])


def is_one_code(run: Run) -> bool:
    """Whether what a run records of its code is of one code alone: a commit, or a hash."""
    info = run.backend_info
    commit = info.get("commit")
    return info.get("code") is not None or (commit is not None and "-" not in commit)


def is_stock(run: Run) -> bool:
    """Whether lm_eval's own hf backend made a run, with an adapter or without."""
    return bool(run.results["config"].get("model") == STOCK)


def version_of(run: Run) -> str:
    """The code that made a run: the version of lm_eval for its own hf backend, else `commit_of`."""
    if is_stock(run):
        return f"stock hf of lm_eval {run.results.get('lm_eval_version', UNKNOWN)}"
    return commit_of(run)


def dtype_of(run: Run) -> str:
    """The dtype of the student, "bfloat16", or UNKNOWN."""
    dtype = run.backend_info.get("dtype") or run.results["config"].get("model_dtype")
    return str(dtype).removeprefix("torch.") if dtype else UNKNOWN


def teacher_dtype_of(run: Run) -> str:
    """The dtype of the teacher, which is recorded where it is not the student's."""
    dtype = run.backend_info.get("teacher_dtype")
    return str(dtype).removeprefix("torch.") if dtype else dtype_of(run)


def device_of(run: Run) -> str:
    """The device that the backend recorded; the harness's own entry is an argument, not the device."""
    return str(run.backend_info.get("device") or UNKNOWN)


def limit_of(run: Run) -> str:
    """The limit of new tokens, or UNKNOWN where the task leaves it to the backend."""
    return str(run.length_limit or UNKNOWN)


def _mixed(entries: Sequence[Entry]) -> dict[str, dict[str, list[Run]]]:
    """commit, dtype or limit -> its values with their runs, for those that have more than one value."""
    runs = [entry.run for entry in entries]
    own = [run for run in runs if not is_stock(run)]
    commits = _by_value(own, commit_of)
    mixed = {}
    if len(commits) > 1 or len({run.source for run in own if not is_one_code(run)}) > 1:
        mixed["commit"] = commits
    stated = {id(entry.run) for entry in entries if entry.is_teacher}
    dtypes = _by_value(runs, lambda r: dtype_of(r).removesuffix(AS_STATED if id(r) in stated else ""))
    if len(dtypes) > 1:
        mixed["dtype"] = dtypes
    teachers = _by_value(
        [run for run in runs if run.backend_info.get("teacher_parameters")], teacher_dtype_of
    )
    if len(teachers) > 1:
        mixed["teacher dtype"] = teachers
    for title, part in _by_benchmark(entries).items():
        limits = _by_limit(part)
        if len(limits) > 1:
            mixed[f"{title} limit"] = limits
    return mixed


def _with_teachers(runs: Sequence[Run], values: Iterable[str], name: str) -> str:
    """The values of the students, and those of teachers that have another."""
    others = {run.backend_info.get(f"teacher_{name}") for run in runs} - {None}
    teachers = (
        f"; of teachers {', '.join(sorted(str(o).removeprefix('torch.') for o in others))}" if others else ""
    )
    return ", ".join(values) + teachers


def _by_benchmark(entries: Sequence[Entry]) -> dict[str, list[Run]]:
    parts: dict[str, list[Run]] = {}
    for entry in entries:
        parts.setdefault(entry.benchmark.title, []).append(entry.run)
    return parts


def _by_limit(runs: Sequence[Run]) -> dict[str, list[Run]]:
    return _by_value(runs, limit_of)


def _by_value(runs: Sequence[Run], value_of: Callable[[Run], str]) -> dict[str, list[Run]]:
    values: dict[str, list[Run]] = {}
    for run in runs:
        values.setdefault(value_of(run), []).append(run)
    return dict(sorted(values.items()))


def _named(values: dict[str, list[Run]]) -> str:
    """Each value with the names of the first runs that have it."""
    return ", ".join(f"{value} ({_first_names(runs)})" for value, runs in values.items())


def _first_names(runs: Sequence[Run]) -> str:
    names = list(dict.fromkeys(run.name for run in runs))
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
