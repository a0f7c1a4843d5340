"""Which runs of two sets are compared with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace

from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.run import Run


def match(base: Sequence[Run], new: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The pairs of runs that are compared, base first."""
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in base:
        by_task[run.task].append(run)
    pairs: list[tuple[Run, Run]] = []
    for task, runs in by_task.items():
        candidates = [run for run in new if run.task == task]
        if not candidates:
            raise NotComparableError(f"task {task}: the baseline has it, the new results do not")
        if len(runs) == 1:
            pairs += [(runs[0], run) for run in candidates]
        else:
            pairs += [(run, _counterpart(run, runs, candidates)) for run in runs]
    return pairs


def _counterpart(run: Run, base: Sequence[Run], candidates: Sequence[Run]) -> Run:
    """The one new run of this method and settings; of this model too where the baseline has several."""
    others = [other for other in base if other is not run]
    same = [other for other in candidates if _kind(other) == _kind(run)]
    rivals = [other for other in others if _kind(other) == _kind(run)]
    if rivals or len(same) > 1:
        # Runs may differ in settings that have no column, such as a dtype: each has its own counterpart.
        equal = [other for other in same if other.identity == run.identity]
        taken = {other.identity for other in rivals}
        same = equal or [o for o in same if o.model == run.model and o.identity not in taken]
        settings = {other.settings for other in rivals} - {run.settings}
        same = [o for o in same if o.settings == run.settings] or [
            o for o in same if o.settings not in settings
        ]
    if len(same) > 1:
        same = [other for other in same if other.name == run.name]
    if not same:
        # A selector that was trained anew has another hash; its run has the old label and name.
        kinds = {_kind(other) for other in others} | {_kind(run)}
        same = [o for o in candidates if _names(o) == _names(run) and _kind(o) not in kinds]
    if len(same) != 1:
        names = "; ".join(f"{o.name} ({o.label}, {o.model}{_other_settings(run, o)})" for o in candidates)
        raise NotComparableError(
            f"task {run.task}: the baseline's {run.name} ({run.label}, {run.model}) has no counterpart among "
            f"the new runs: {names}"
        )
    return same[0]


def _kind(run: Run) -> tuple[object, ...]:
    """Method and settings; without the threshold of a rate, which each calibration measures anew."""
    settings = run.settings
    return (run.method, settings if settings.tau is None else replace(settings, threshold=None))


def _names(run: Run) -> tuple[str, str, str]:
    return (run.name, run.label, run.model)


def _other_settings(run: Run, other: Run) -> str:
    """In which settings a run of the same label differs, "; checkpoint a1 against b2"; else nothing."""
    if other.label != run.label:
        return ""
    old, new = asdict(run.settings), asdict(other.settings)
    return "".join(f"; {name} {old[name]} against {new[name]}" for name in old if old[name] != new[name])
