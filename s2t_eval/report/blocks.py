"""The rows of a report: runs sorted by student, benchmark and method, and checked to be comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s2t_eval.method_table import METHODS
from s2t_eval.report.benchmarks import BENCHMARKS, Benchmark, benchmark_of
from s2t_eval.report.comparable import require_comparable
from s2t_eval.report.run import Run
from s2t_eval.report.table import plain

TEACHER_ALONE = "Teacher alone"


@dataclass(frozen=True)
class Entry:
    """A run with its place in the tables: the block of its student, its row's label, its column."""

    student: str
    label: str
    benchmark: Benchmark
    run: Run

    @property
    def is_teacher(self) -> bool:
        """Whether it is the teacher decoding alone, which is a bound rather than a method."""
        return self.label == TEACHER_ALONE

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key of its row: methods as in the paper, then settings, the teacher alone last."""
        settings = self.run.settings
        return (
            self.is_teacher,
            METHODS.index(self.run.method),
            settings.trigger or "",
            settings.tau or 0.0,
            settings.threshold or 0.0,
            settings.top_k or 0,
            settings.samples or 0,
            settings.seed,
        )


def arrange(
    runs: Sequence[Run], names: Mapping[str, str] | None = None, *, other_limits: bool = False
) -> list[Entry]:
    """Runs in the order of the table; greedy decoding of another run's teacher becomes "Teacher alone".

    Args:
        runs: at least one.
        names: model -> the student in whose block it belongs, for checkpoints derived from it.
        other_limits: whether limits of new tokens may differ within a column.

    Raises:
        NotComparableError: runs of one column whose task version, prompts, n or limits differ.
    """
    names = names or {}
    students: dict[str, str] = {}  # fingerprint of a teacher -> its student
    for run in runs:
        teacher = run.backend_info.get("teacher")
        if teacher is not None:
            students[teacher] = names.get(run.model, short_name(run.model))
    entries = []
    for run in runs:
        student, label = names.get(run.model, short_name(run.model)), run.label
        if run.method.key == "greedy" and run.backend_info.get("student") in students:
            student, label = students[run.backend_info["student"]], TEACHER_ALONE
        # Names of models and folders may contain line breaks; cells of a table may not.
        entries.append(Entry(plain(student), plain(label), benchmark_of(run.task), run))
    entries = _with_names(entries)
    columns = {entry.benchmark for entry in entries}
    for benchmark in columns:
        require_comparable(
            [e.run for e in entries if e.benchmark == benchmark], benchmark.title, other_limits=other_limits
        )
    return sorted(entries, key=lambda e: (e.student, e.order, column_order(e.benchmark)))


def _with_names(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, a name appended to the labels of those that would share a cell.

    They differ in a setting without a place in the label, such as two selectors. The names of their folders
    distinguish them, or those of the results files where both are in one folder.
    """
    sharing: dict[tuple[str, str, Benchmark], list[Run]] = {}
    for e in entries:
        sharing.setdefault((e.student, e.label, e.benchmark), []).append(e.run)
    labelled = []
    for e in entries:
        runs = sharing[e.student, e.label, e.benchmark]
        name = f" ({plain(_name_among(e.run, runs))})" if len(runs) > 1 else ""
        labelled.append(replace(e, label=e.label + name))
    return labelled


def _name_among(run: Run, runs: Sequence[Run]) -> str:
    """The shortest name that no other of these runs has."""
    for name_of in (lambda r: r.name, lambda r: r.source.stem):
        if len({name_of(other) for other in runs}) == len(runs):
            return str(name_of(run))
    return str(run.source)


def column_order(benchmark: Benchmark) -> tuple[int, str]:
    """The paper's columns first, in its order."""
    known = BENCHMARKS.index(benchmark) if benchmark in BENCHMARKS else len(BENCHMARKS)
    return (known, benchmark.title)


def short_name(model: str) -> str:
    """The last part of a model's path; names on the Hub and of the embedded pair are kept whole."""
    return model.rstrip("/").rsplit("/", 1)[-1] if model.startswith(("/", ".", "~")) else model
