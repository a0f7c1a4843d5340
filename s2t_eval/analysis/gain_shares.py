"""The share of a gain over greedy decoding that a run keeps, of the gain of another run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from s2t_eval.report.blocks import Entry, is_of_teacher, teacher_of
from s2t_eval.report.compare import paired_scores
from s2t_eval.report.controls import control_of
from s2t_eval.report.origin import UNKNOWN, dtype_of, teacher_dtype_of
from s2t_eval.report.run import Run
from s2t_eval.statistics import Interval, Scores, share_of_gain


class GainShare(NamedTuple):
    """What a run keeps of the gain of its reference.

    Args:
        scores, reference, greedy: of the run, of its reference and of greedy decoding, on the documents that
            have a score in all three, [n] with n of at least 1.
        share: (mean(scores) - mean(greedy)) / (mean(reference) - mean(greedy)).
        interval: of the share, see `share_of_gain`.
    """

    scores: Scores
    reference: Scores
    greedy: Scores
    share: float
    interval: Interval


def gain_share(
    entry: Entry, entries: Sequence[Entry], is_reference: Callable[[Entry], bool]
) -> GainShare | None:
    """The share that a run keeps of the gain with the teacher's picks.

    Args:
        entry: the run, with documents.
        entries: those to choose from.
        is_reference: whether a run of method `s2t` is the one whose gain counts; the first one with the
            run's own control and, wherever both name one, its teacher and dtypes does.

    Returns:
        None without a control or a reference, or without a document that has a score in all three; and for a
        run without a teacher where the references are of several.
    """
    column = entry.beside(entries)
    base = control_of(entry, column)
    if base is None:
        return None
    full = [e for e in column if e.run.method.key == "s2t" and is_reference(e)]
    full = [e for e in full if control_of(e, column) is base and _is_of_same_models(entry.run, e.run)]
    teachers = {(teacher_of(e.run), teacher_dtype_of(e.run)) for e in full}
    if not full or (teacher_of(entry.run) is None and len(teachers) > 1):
        return None
    scores, reference, greedy = paired_scores([entry.run, full[0].run, base.run])
    if not len(scores):
        return None
    return GainShare(scores, reference, greedy, *share_of_gain(scores, reference, greedy))


def _is_of_same_models(run: Run, other: Run) -> bool:
    """Whether two runs have one dtype and one teacher in one dtype, wherever both name one."""
    teacher = teacher_of(other)
    dtypes = [{dtype_of(one) for one in (run, other)}]
    if None not in (teacher_of(run), teacher):
        dtypes.append({teacher_dtype_of(one) for one in (run, other)})
    return is_of_teacher(run, teacher) and all(len(of_model - {UNKNOWN}) < 2 for of_model in dtypes)
