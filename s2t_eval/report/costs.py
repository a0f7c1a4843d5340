"""The costs of a problem, from telemetry: tokens of every model, forward passes, cut-off texts, work."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from s2t_eval.report.blocks import Entry
from s2t_eval.report.computed import NO_HASH
from s2t_eval.report.documents import as_number
from s2t_eval.report.run import Run
from s2t_eval.report.telemetry import generated_tasks

NAN = float("nan")
PER_PROBLEM = ("tokens", "teacher_calls", "teacher_tokens", "scorer_calls", "scorer_tokens")
"""Counts of the telemetry that are divided by the number of problems."""
OF_SOME = ("teacher_generated", "discarded_tokens", "evaluation_tokens")
"""The same, of some methods alone; files of early versions lack them."""


def costs(entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each results file with telemetry: the mean cost of a problem, over its generated tasks.

    Tasks whose answers are scored rather than generated cost no tokens, and have no part in a row.

    A teacher's file has one in the block of each of its students.

    Where the harness repeats each problem, it is the mean cost of one of its responses.

    A file of which a generated task is not among the entries has no row: its telemetry counts that task too.

    Columns: student, method, method_key, tasks, problems, accuracy (percent, mean over its tasks),
    PER_PROBLEM, OF_SOME, forwards_per_token, fired and flips (percent of the tokens), cut_off (percent of the
    texts), tokens_per_correct, computed_per_correct, billions_of_work (see `work`), and seconds,
    tokens_per_second and peak_gib. A figure that does not apply or that the file lacks is nan.
    """
    rows = []
    parameters = _parameters_by_model(entries)
    entries = [entry for entry in entries if is_generated(entry.run)]
    for place in dict.fromkeys((entry.student, entry.run.source) for entry in entries):
        part = [entry for entry in entries if (entry.student, entry.run.source) == place]
        first, cost = part[0], part[0].run.cost
        if not cost or not is_whole_file([entry.run for entry in part]):
            continue
        problems = sum(n for n, _ in evaluated(first.run).values())
        answers = num_answers(first.run)
        memory = cost.get("peak_memory_bytes")
        fired, flips = fired_rates(first.run)
        rows.append(
            {
                "student": first.student,
                "method": first.label,
                "method_key": first.run.method.key,
                "tasks": " + ".join(entry.benchmark.title for entry in part),
                "problems": problems,
                "accuracy": 100 * sum(entry.run.value for entry in part) / len(part),
                **{name: cost.get(name, 0) / answers for name in PER_PROBLEM},
                **{name: cost.get(name, NAN) / answers for name in OF_SOME},
                "forwards_per_token": cost.get("forwards_per_token", NAN),
                "fired": 100 * fired,
                "flips": 100 * flips,
                "cut_off": 100 * cut_off([entry.run for entry in part]),
                "tokens_per_correct": tokens_per_correct([entry.run for entry in part]),
                "computed_per_correct": computed_per_correct([entry.run for entry in part]),
                "billions_of_work": work(first.run, parameters) / answers / 1e9,
                "seconds": cost.get("seconds", NAN) / answers,
                "tokens_per_second": cost.get("tokens_per_second") or NAN,
                "peak_gib": memory / 2**30 if memory else NAN,
            }
        )
    return pd.DataFrame(rows)


def fired_rates(run: Run) -> tuple[float, float]:
    """Fired steps and flips as shares of the generated tokens; nan for a method without a trigger."""
    if not run.method.fires:
        return NAN, NAN
    return run.cost.get("realised_rate", NAN), run.cost.get("flip_rate", NAN)


def cut_off(runs: Sequence[Run]) -> float:
    """The share of texts that ended at the limit of new tokens, over all documents; nan where unknown."""
    shares = [(_cut_off(run), run.n) for run in runs if is_generated(run)]
    return sum(share * n for share, n in shares) / sum(n for _, n in shares) if shares else NAN


def _cut_off(run: Run) -> float:
    """From the telemetry of a file with one task, else from the task's own figure `truncated`."""
    if len(evaluated(run)) == 1 and run.cost.get("texts") and "length_limited" in run.cost:
        return float(run.cost["length_limited"] / run.cost["texts"])
    figures = run.results["results"][run.task]
    shares = (as_number(figures[name]) for name in figures if name.split(",")[0] == "truncated")
    return next((share for share in shares if share is not None), NAN)


def tokens_per_correct(runs: Sequence[Run]) -> float:
    """Generated tokens (samples of a vote, discarded drafts and branches included) for each correct answer.

    Args:
        runs: all runs of their results files, whose telemetry counts a whole file.

    Returns:
        nan where telemetry or a run of a file is missing, where no answer is generated, and for a group of
        which only some tasks are; infinity without a correct answer.
    """
    return _per_correct(runs, lambda run: run.cost.get("tokens", NAN) + run.cost.get("discarded_tokens", 0))


def computed_per_correct(runs: Sequence[Run]) -> float:
    """Tokens that student, teacher and scorer computed, prompts included, for each correct answer.

    Args, Returns:
        see `tokens_per_correct`.
    """
    return _per_correct(runs, computed_tokens)


def computed_tokens(run: Run) -> float:
    """Tokens that all models of a run computed, prompts included, whatever each of them cost; see `work`."""
    cost = run.cost
    total = _own_tokens(run) + cost.get("scorer_tokens", 0) + cost.get("deeper_passes", 0)
    # what a teacher reads to evaluate steps is among its tokens
    return float(total + (cost.get("teacher_tokens") or cost.get("evaluation_tokens", 0)))


def _own_tokens(run: Run) -> float:
    """Tokens that the plain student computed."""
    cost = run.cost
    return float(cost.get("tokens", NAN) + cost.get("prefill_tokens", NAN) + cost.get("discarded_tokens", 0))


def _per_correct(runs: Sequence[Run], tokens_of: Callable[[Run], float]) -> float:
    runs = [run for run in runs if is_generated(run)]
    if not runs or any(set(run.tasks) - set(evaluated(run)) for run in runs):
        return NAN
    if not all(is_whole_file([run for run in runs if run.source == source]) for source in _sources(runs)):
        return NAN
    tokens = {run.source: tokens_of(run) for run in runs}
    correct = sum(_num_correct_answers(run) for run in runs)
    return math.inf if correct <= 0 else sum(tokens.values()) / correct


def num_answers(run: Run) -> int:
    """Responses in a run's results file: each document of its generated tasks as often as it is repeated."""
    return sum(n * repeats for n, repeats in evaluated(run).values())


def _num_correct_answers(run: Run) -> float:
    """Correct responses; of scores of several responses together (`maj@k`, `pass@k`) correct documents."""
    if _is_joint(run.metric) or not run.n:
        return run.num_correct
    counts = evaluated(run)
    answers = sum(n * repeats for n, repeats in (counts[task] for task in run.tasks))
    return answers / run.n * run.num_correct


def _is_joint(metric: str) -> bool:
    """Whether a metric scores several responses as one: `avg@k` and `pass@1` are means over responses."""
    match = re.fullmatch(r"(?:maj|pass)@(\d+)", metric)
    return match is not None and int(match[1]) > 1


def _sources(runs: Sequence[Run]) -> set[Path]:
    return {run.source for run in runs}


def is_whole_file(runs: Sequence[Run]) -> bool:
    """Whether these runs of one results file are all of its generated tasks, which its telemetry counts."""
    return {task for run in runs for task in run.tasks} >= set(evaluated(runs[0]))


def is_generated(run: Run) -> bool:
    """Whether the answers of a task, or of some tasks of a group, are generated: others have no costs."""
    return not set(run.tasks).isdisjoint(evaluated(run))


def evaluated(run: Run) -> dict[str, tuple[int, int]]:
    """Task -> its documents and repeats, for the generated tasks of a run's results file."""
    return generated_tasks(run.results)


def work(run: Run, parameters: dict[str, float]) -> float:
    """Parameters times tokens computed, prompts included, summed over student, teacher and scorer.

    A scorer that computes some layers alone counts with their parameters (`scorer_parameters`), and the
    candidates that it reads count with all others too, through which the student computes them before.
    The student's own tokens, those that it discards after a teacher's verification included, count with its
    parameters without an adapter. Tokens that are computed with the adapter (candidates that a scorer reads,
    further passes of Think-at-Hard) count with the adapter too.

    Args:
        run: with telemetry.
        parameters: model fingerprint -> number of parameters; models without one are not among them.

    Returns:
        nan where the number of parameters of a model that computed tokens is unknown.
    """
    cost, info = run.cost, run.backend_info
    with_adapter = _num_parameters(run)
    student = _known(parameters, info.get("student"), with_adapter)
    total = student * _own_tokens(run)
    scorer = info.get("scorer_parameters") or with_adapter
    total += scorer * cost.get("scorer_tokens", 0) + (with_adapter - scorer) * _candidates_read(run)
    total += with_adapter * cost.get("deeper_passes", 0)
    if not cost.get("teacher_tokens"):  # what a teacher reads to evaluate steps is among its tokens
        total += student * cost.get("evaluation_tokens", 0)
    else:
        teacher = info.get("teacher_parameters") or _known(parameters, info.get("teacher"), NAN)
        total += teacher * cost["teacher_tokens"]
    return float(total)


def _candidates_read(run: Run) -> float:
    """Candidates that a scorer reads behind a text: all of each fired step, of a form that looks ahead."""
    policy = run.backend_info.get("policy") or {}
    if policy.get("score") in (None, "direct"):
        return 0.0
    return float(run.cost.get("triggers", 0) * policy["top_k"])


def _known(parameters: dict[str, float], fingerprint: object, otherwise: float) -> float:
    """The parameters of a model; `otherwise` of one without a fingerprint, whatever else has none."""
    return otherwise if fingerprint in NO_HASH else parameters.get(str(fingerprint), otherwise)


def _parameters_by_model(entries: Sequence[Entry]) -> dict[str, float]:
    """Fingerprint -> parameters: the smallest number of all runs of a model, that without an adapter."""
    parameters: dict[str, float] = {}
    for entry in entries:
        model, number = entry.run.backend_info.get("student"), _num_parameters(entry.run)
        if model not in NO_HASH and not math.isnan(number):
            parameters[str(model)] = min(number, _known(parameters, model, number))
    return parameters


def _num_parameters(run: Run) -> float:
    return float(run.results["config"].get("model_num_parameters") or NAN)
