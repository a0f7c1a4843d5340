"""The rows of a report: runs sorted by student, benchmark and method, and checked to be comparable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from s2t_eval.method_table import BY_KEY, METHODS
from s2t_eval.report.benchmarks import BENCHMARKS, Benchmark, columns_of
from s2t_eval.report.comparable import require_comparable
from s2t_eval.report.computed import NO_HASH, model_arguments
from s2t_eval.report.json_files import part_of
from s2t_eval.report.run import Run
from s2t_eval.report.table import plain

TEACHER_ALONE = "Teacher alone"
DISTILLED = ("distil", "rlkd")
"""Methods whose adapter is what they are, not part of their student."""


def is_teacher_alone(label: str) -> bool:
    """Whether a row's label is the teacher's, which has its name behind it where a block has several."""
    return label == TEACHER_ALONE or label.startswith(f"{TEACHER_ALONE} (")


def in_first_rows(rows: Iterable[tuple[str, str]], values: Mapping[str, float]) -> list[float | None]:
    """The value of each row's method, in the method's first row alone.

    A published number belongs to a method, not to a setting. That of a vote is of the plain one, and the
    teacher alone has none.

    Args:
        rows: label and method key of each row of a block.
        values: method key -> its value.
    """
    left, chosen = dict(values), []
    for label, key in rows:
        is_its = not is_teacher_alone(label) and (not BY_KEY[key].votes or label == BY_KEY[key].title)
        chosen.append(left.pop(key, None) if is_its else None)
    return chosen


@dataclass(frozen=True)
class Entry:
    """A run with its place in the tables: the block of its student, its row's label, its column.

    Args:
        student, label, benchmark: block, row and column.
        run: the run.
        is_adapted: whether the block is of a student with an adapter of its own (`peft=`).
        is_placed: whether `--student` put the run into the block.
    """

    student: str
    label: str
    benchmark: Benchmark
    run: Run
    is_adapted: bool = False
    is_placed: bool = False

    @property
    def is_teacher(self) -> bool:
        """Whether it is the teacher decoding alone, which is a bound rather than a method."""
        return is_teacher_alone(self.label)

    @property
    def is_control(self) -> bool:
        """Whether it is greedy decoding of its block's student, or of one of them; see `control_of`."""
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
            settings.warmup,
            settings.samples or 0,
            settings.seed,
        )


def arrange(
    runs: Sequence[Run], names: Mapping[str, str] | None = None, *, other_limits: bool = False
) -> list[Entry]:
    """Runs in the order of the table; greedy decoding of other runs' teacher becomes "Teacher alone".

    It stands in the block of each of its students, and as a student in its own where it has other runs. A
    student with an adapter (`peft=`) under another method than greedy decoding is a student of its own, and
    greedy decoding of it, a row of the plain student, stands there too. Students of one name, such as the
    checkpoints of two trainings or two revisions, have blocks of their own, unless `names` joins them.

    Args:
        runs: at least one.
        names: model -> the student in whose block it belongs, for checkpoints derived from it.
        other_limits: whether limits of new tokens may differ within a column.

    Raises:
        NotComparableError: runs of one column whose task version, prompts, n or limits differ.
    """
    names = names or {}
    blocks_of = _blocks(runs, names)
    columns_by_task = columns_of(run.task for run in runs)
    adapted_blocks = {blocks_of[id(run)] for run in runs if _is_adapted(run)}
    students = _students_by_teacher(runs, blocks_of)
    labels = _labels(runs, blocks_of)
    entries = []
    for run in runs:
        places = _places(run, runs, blocks_of, labels[id(run)], students.get(model_key(run), {}))
        # Names of models and folders may contain line breaks; cells of a table may not.
        entries += [
            Entry(
                plain(student),
                plain(label),
                columns_by_task[run.task],
                run,
                is_adapted=student in adapted_blocks,
                is_placed=run.model in names,
            )
            for student, label in places
        ]
    entries = _with_names(entries)
    columns = {entry.benchmark for entry in entries}
    for benchmark in columns:
        require_comparable(
            [e.run for e in entries if e.benchmark == benchmark], benchmark.title, other_limits=other_limits
        )
    return sorted(entries, key=lambda e: (e.student, e.order, column_order(e.benchmark)))


def _students_by_teacher(runs: Sequence[Run], blocks_of: Mapping[int, str]) -> dict[str, dict[str, None]]:
    """A teacher -> the blocks of its students, in the order of their runs."""
    students: dict[str, dict[str, None]] = {}
    for run in runs:
        teacher = None if run.method.key in DISTILLED else teacher_of(run)
        if teacher is not None:
            students.setdefault(teacher, {})[blocks_of[id(run)]] = None
    return students


def _labels(runs: Sequence[Run], blocks_of: Mapping[int, str]) -> dict[int, str]:
    """`id` of a run -> its label, without the warm-up where all that fire in its block have the same one."""
    warmups: dict[str, set[int]] = {}
    for run in runs:
        if run.settings.trigger is not None:
            warmups.setdefault(blocks_of[id(run)], set()).add(run.settings.warmup)
    labels = {}
    for run in runs:
        is_shown = len(warmups.get(blocks_of[id(run)], ())) > 1
        settings = run.settings if is_shown else replace(run.settings, warmup=0)
        labels[id(run)] = replace(run, settings=settings).label
    return labels


def _places(
    run: Run, runs: Sequence[Run], blocks_of: Mapping[int, str], label: str, taught: Collection[str]
) -> list[tuple[str, str]]:
    """The blocks in which a run stands, with its label in each.

    Args:
        run: the run.
        runs: all of them.
        blocks_of: id of a run -> its own block.
        label: of the run.
        taught: blocks of the students whose teacher is the run's model.
    """
    own = (blocks_of[id(run)], label)
    if run.method.key == "tuned":
        same = [other for other in runs if _is_adapted(other) and _names_of(other) == _names_of(run)]
        blocks = dict.fromkeys(blocks_of[id(other)] for other in same if is_same_student(run, other))
        return [own, *((block, label) for block in blocks)]
    if run.method.key != "greedy" or not taught:
        return [own]
    places = [(student, TEACHER_ALONE) for student in taught if student != own[0]]
    is_student = any(other.model == run.model and other.method.key != "greedy" for other in runs)
    places += [own] if is_student else []
    return places or [(own[0], TEACHER_ALONE)]


def _is_adapted(run: Run) -> bool:
    """Whether its student is one of its own, because it has an adapter that another method decodes."""
    return has_adapter(run) and run.method.key != "tuned"


def has_adapter(run: Run) -> bool:
    """Whether the student of a run has an adapter of its own; a method's distilled one is none."""
    return bool(_names_of(run)[1]) and run.method.key not in DISTILLED


def is_same_student(run: Run, other: Run) -> bool:
    """Whether two runs' students have one fingerprint, as far as their results have one.

    A distilled student is the plain one in comparisons.
    """
    fingerprints = [student_fingerprint(one) for one in (run, other)]
    return None in fingerprints or fingerprints[0] == fingerprints[1]


def student_fingerprint(run: Run) -> str | None:
    """The fingerprint of a run's student, of a distilled one that of the plain student; None if unknown."""
    info = run.backend_info
    own = part_of(info, "distilled").get("base") if run.method.key in DISTILLED else info.get("student")
    return None if own in NO_HASH else str(own)


def model_key(run: Run) -> str:
    """What a run's student is recognised by where it is another run's teacher: fingerprint, else name."""
    fingerprint = run.backend_info.get("student")
    return run.model if fingerprint in NO_HASH else str(fingerprint)


def teacher_of(run: Run) -> str | None:
    """The `model_key` of the teacher that a run, or the training of its student, names; None without one."""
    named = [run.backend_info, part_of(run.backend_info, "distilled")]
    for info in named:
        for key in (info.get("teacher"), info.get("teacher_name")):
            if key not in NO_HASH:
                return str(key)
    return None


def is_of_teacher(run: Run, teacher: str | None) -> bool:
    """Whether the teacher of a run is this one, a `model_key`, wherever both are known."""
    own = teacher_of(run)
    return None in (own, teacher) or own == teacher


def _names_of(run: Run) -> tuple[str, str]:
    """The names of a student and of its adapter."""
    return run.model, str(model_arguments(run.results["config"]).get("peft") or "")


def _revision_of(run: Run) -> str:
    return str(model_arguments(run.results["config"]).get("revision") or "")


def _blocks(runs: Sequence[Run], names: Mapping[str, str]) -> dict[int, str]:
    """`id` of a run -> its block, in which there is one student, apart from those that `names` put there.

    Students of one name are told apart by their fingerprints. A run whose plain student has none is in the
    block of the same model and revision, where there is one such.
    """
    blocks = {id(run): _student_of(run, names) for run in runs}
    for name in dict.fromkeys(blocks.values()):
        part = [run for run in runs if blocks[id(run)] == name and run.model not in names]
        # The fingerprint of a "tuned" student is that of the adapted one, which is a row of the plain one.
        known = {id(run): student_fingerprint(run) for run in part if run.method.key != "tuned"}
        students: dict[str, list[Run]] = {}
        for run in part:
            if (fingerprint := known.get(id(run))) is not None:
                students.setdefault(fingerprint, []).append(run)
        if len(students) < 2:
            continue
        own_names = _distinct_names(students)
        for run in part:
            fingerprint = known.get(id(run)) or _only_student(run, students)
            blocks[id(run)] = own_names[fingerprint] if fingerprint else name
    return blocks


def _only_student(run: Run, students: Mapping[str, Sequence[Run]]) -> str | None:
    """The one of these students, by fingerprint, whose model and revision are a run's; None if not one."""
    wanted = (run.model, _revision_of(run))
    same = [key for key, part in students.items() if wanted in [(r.model, _revision_of(r)) for r in part]]
    return same[0] if len(same) == 1 else None


def _distinct_names(students: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Names by which students of one name differ, by fingerprint.

    More of the folders above them, else their revisions, else the fingerprints.
    """
    ways: list[Callable[[Run], str]] = [
        *(functools.partial(_student_of, names={}, num_parts=num_parts) for num_parts in (2, 3, 4)),
        lambda run: f"{_student_of(run, {})}@{_revision_of(run)}".removesuffix("@"),
    ]
    for name_of in ways:
        found = {key: {name_of(run) for run in runs} for key, runs in students.items()}
        if all(len(own) == 1 for own in found.values()) and len(set().union(*found.values())) == len(found):
            return {key: own.pop() for key, own in found.items()}
    return {key: f"{_student_of(runs[0], {})} ({key[:8]})" for key, runs in students.items()}


def _student_of(run: Run, names: Mapping[str, str], num_parts: int = 1) -> str:
    """The name of a run's student, with its adapter under other methods than greedy decoding."""
    model, adapter = _names_of(run)
    student = names.get(model, short_name(model, num_parts))
    is_own = has_adapter(run) and run.method.key != "tuned"
    return f"{student} with {short_name(adapter, num_parts)}" if is_own else student


def _with_names(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, a name appended to the labels of which some would share a cell, in every column alike.

    They differ in a setting without a place in the label, such as two selectors. The names of their folders
    distinguish them, those of the results files where both are in one folder, or those of their models.
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
    for name_of in (lambda r: r.name, lambda r: r.source.stem, lambda r: short_name(r.model)):
        if all(len({name_of(other) for other in runs}) == len(runs) for runs in cells):
            return str(name_of(run))
    return str(run.source)


def column_order(benchmark: Benchmark) -> tuple[int, str]:
    """The paper's columns first, in its order."""
    known = BENCHMARKS.index(benchmark) if benchmark in BENCHMARKS else len(BENCHMARKS)
    return (known, benchmark.title)


def short_name(model: str, num_parts: int = 1) -> str:
    """The last parts of a model's path; names on the Hub and of the embedded pair are kept whole."""
    is_path = model.startswith(("/", ".", "~"))
    return "/".join(model.strip("/").split("/")[-num_parts:]) if is_path else model
