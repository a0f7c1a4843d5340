"""Which greedy run a row's gain is measured against, where a block holds several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s2t_eval.report.blocks import Entry, student_fingerprint
from s2t_eval.report.origin import UNKNOWN, dtype_of, limit_of


def control_of(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """Greedy decoding of a row's own student, in the same block and column.

    Of several greedy runs it is the one of the same weights, else of the same model's name, else the one that
    was not put there by `--student`; of those that are left, the one with the row's dtype and limit of new
    tokens. A checkpoint's greedy run that was put into a student's block is itself a row, whose control is
    the student's own greedy run.

    Args:
        entry: a row.
        entries: those to choose from; those of other blocks and columns are left out.

    Returns:
        None for the student's greedy run itself, and where there is no such run or more than one.
    """
    place = (entry.student, entry.benchmark)
    controls = [e for e in entries if (e.student, e.benchmark) == place and e.is_control]
    if entry.is_control:
        controls = [e for e in controls if entry.is_placed and not e.is_placed]
    for is_own in _criteria(entry):
        if len(controls) > 1:
            controls = [e for e in controls if is_own(e)] or controls
    return controls[0] if len(controls) == 1 else None


def _criteria(entry: Entry) -> list[Callable[[Entry], bool]]:
    """What a row's control has in common with it, the most telling first."""
    run = entry.run
    fingerprint = student_fingerprint(run)
    dtypes, limits = ({value(run), UNKNOWN} for value in (dtype_of, limit_of))
    return [
        lambda control: fingerprint is not None and student_fingerprint(control.run) == fingerprint,
        lambda control: control.run.model == run.model,
        lambda control: not control.is_placed,
        lambda control: dtype_of(control.run) == dtype_of(run),
        lambda control: dtype_of(control.run) in dtypes,
        lambda control: limit_of(control.run) in limits,
    ]
