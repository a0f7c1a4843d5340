"""The rows of a report: runs sorted by student, benchmark and method, and checked to be comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s2t_eval.method_table import METHODS
from s2t_eval.report.benchmarks import BENCHMARKS, Benchmark, benchmark_of
from s2t_eval.report.comparable import require_comparable
from s2t_eval.report.computed import model_arguments
from s2t_eval.report.run import Run
from s2t_eval.report.table import plain

TEACHER_ALONE = "Teacher alone"
DISTILLED = ("distil", "rlkd")
"""Methods whose adapter is what they are, not part of their student."""


def is_teacher_alone(label: str) -> bool:
    """Whether a row's label is the teacher's, which has its name behind it where a block has several."""
    return label == TEACHER_ALONE or label.startswith(f"{TEACHER_ALONE} (")


@dataclass(frozen=True)
class Entry:
    """A run with its place in the tables: the block of its student, its row's label, its column.

    Args:
        student, label, benchmark: block, row and column.
        run: the run.
        is_adapted: whether the block is of a student with an adapter of its own (`peft=`).
    """

    student: str
    label: str
    benchmark: Benchmark
    run: Run
    is_adapted: bool = False

    @property
    def is_teacher(self) -> bool:
        """Whether it is the teacher decoding alone, which is a bound rather than a method."""
        return is_teacher_alone(self.label)

    @property
    def is_control(self) -> bool:
        """Whether it is greedy decoding of its block's student."""
        own = "tuned" if self.is_adapted else "greedy"
        return self.run.method.key == own and not self.is_teacher

    def beside(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of the same block and column whose documents are known, which can be paired with it."""
        place = (self.student, self.benchmark)
        return [e for e in entries if (e.student, e.benchmark) == place and e.run.documents is not None]

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
    """Runs in the order of the table; greedy decoding of other runs' teacher becomes "Teacher alone".

    It stands in the block of each of its students, and as a student in its own where it has other runs. A
    student with an adapter (`peft=`) under another method than greedy decoding is a student of its own, and
    greedy decoding of it, a row of the plain student, stands there too.

    Args:
        runs: at least one.
        names: model -> the student in whose block it belongs, for checkpoints derived from it.
        other_limits: whether limits of new tokens may differ within a column.

    Raises:
        NotComparableError: runs of one column whose task version, prompts, n or limits differ.
    """
    names = names or {}
    students: dict[str, dict[str, None]] = {}  # fingerprint of a teacher -> its students
    for run in runs:
        teacher = run.backend_info.get("teacher")
        if teacher is not None:
            students.setdefault(teacher, {})[_student_of(run, names)] = None
    adapted = [run for run in runs if has_adapter(run) and run.method.key != "tuned"]
    adapted_blocks = {_student_of(run, names) for run in adapted}
    entries = []
    for run in runs:
        own = (_student_of(run, names), run.label)
        places = [own]
        if run.method.key == "tuned":
            same = [other for other in adapted if _names_of(other) == _names_of(run)]
            blocks = dict.fromkeys(_student_of(other, names) for other in same if is_same_student(run, other))
            places += [(block, run.label) for block in blocks]
        taught = students.get(str(run.backend_info.get("student")), {})
        if run.method.key == "greedy" and taught:
            others = [student for student in taught if student != own[0]]
            is_student = any(r.model == run.model and r.method.key != "greedy" for r in runs)
            places = [(student, TEACHER_ALONE) for student in others] + ([own] if is_student else [])
            places = places or [(own[0], TEACHER_ALONE)]
        # Names of models and folders may contain line breaks; cells of a table may not.
        entries += [
            Entry(plain(student), plain(label), benchmark_of(run.task), run, student in adapted_blocks)
            for student, label in places
        ]
    entries = _with_names(entries)
    columns = {entry.benchmark for entry in entries}
    for benchmark in columns:
        require_comparable(
            [e.run for e in entries if e.benchmark == benchmark], benchmark.title, other_limits=other_limits
        )
    return sorted(entries, key=lambda e: (e.student, e.order, column_order(e.benchmark)))


def has_adapter(run: Run) -> bool:
    """Whether the student of a run has an adapter of its own; a method's distilled one is none."""
    return bool(_names_of(run)[1]) and run.method.key not in DISTILLED


def is_same_student(run: Run, other: Run) -> bool:
    """Whether two runs' students have one fingerprint, as far as their results have one.

    A distilled student, whose fingerprint is of what it was made into, is the plain one in comparisons.
    """
    if run.method.key in DISTILLED:
        return True
    prints = [one.backend_info.get("student") for one in (run, other)]
    return None in prints or prints[0] == prints[1]


def _names_of(run: Run) -> tuple[str, str]:
    """The names of a student and of its adapter."""
    return run.model, str(model_arguments(run.results["config"]).get("peft") or "")


def _student_of(run: Run, names: Mapping[str, str]) -> str:
    """The block of a run: its student, with its adapter under other methods than greedy decoding."""
    model, adapter = _names_of(run)
    student = names.get(model, short_name(model))
    is_own = has_adapter(run) and run.method.key != "tuned"
    return f"{student} with {short_name(adapter)}" if is_own else student


def _with_names(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, a name appended to the labels of which some would share a cell, in every column alike.

    They differ in a setting without a place in the label, such as two selectors. The names of their folders
    distinguish them, or those of the results files where both are in one folder.
    """
    columns: dict[tuple[str, str], dict[Benchmark, list[Run]]] = {}
    for e in entries:
        columns.setdefault((e.student, e.label), {}).setdefault(e.benchmark, []).append(e.run)
    labelled = []
    for e in entries:
        cells = list(columns[e.student, e.label].values())
        name = f" ({plain(_name_among(e.run, cells))})" if max(map(len, cells)) > 1 else ""
        labelled.append(replace(e, label=e.label + name))
    return labelled


def _name_among(run: Run, cells: Sequence[Sequence[Run]]) -> str:
    """The shortest kind of name by which the runs of each of these cells differ."""
    for name_of in (lambda r: r.name, lambda r: r.source.stem):
        if all(len({name_of(other) for other in runs}) == len(runs) for runs in cells):
            return str(name_of(run))
    return str(run.source)


def column_order(benchmark: Benchmark) -> tuple[int, str]:
    """The paper's columns first, in its order."""
    known = BENCHMARKS.index(benchmark) if benchmark in BENCHMARKS else len(BENCHMARKS)
    return (known, benchmark.title)


def short_name(model: str) -> str:
    """The last part of a model's path; names on the Hub and of the embedded pair are kept whole."""
    return model.rstrip("/").rsplit("/", 1)[-1] if model.startswith(("/", ".", "~")) else model
