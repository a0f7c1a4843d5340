"""Stages that evaluate the methods, and those that make the table and the analyses from their results."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s2t_eval.method_table import STOCK
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.published import published
from s2t_eval.reproduce.commands import asking, least, model_arguments, option, row_loading
from s2t_eval.reproduce.documents import selected_documents
from s2t_eval.reproduce.read import RecipeError, references
from s2t_eval.reproduce.servers import loaded_arguments, placeless
from s2t_eval.reproduce.stage_list import BOTH, StageList
from s2t_eval.reproduce.stages import (
    EVALUATE,
    RANDOM_MODELS,
    TRACE,
    Evaluation,
    Stage,
    evaluations,
    merged_fields,
    trace_of,
)
from s2t_eval.reproduce.work import Work

RESCORED_TEXTS = 100
"""Texts of each trace that the analysis scores again, one forward pass of the student each."""
DEFAULT_SAMPLES = 8
"""Of `maj8`, for estimates alone. Its own default comes with torch, which takes seconds; a test compares."""


def add_evaluations(stages: StageList) -> None:
    """The runs of the table.

    Raises:
        RecipeError: a task without a run, whose column would end the reproduction after all others.
    """
    runs = evaluations(stages.recipe)
    for part in stages.recipe.tasks:
        if all(run.task != part.task for run in runs):
            raise RecipeError(
                f"tasks: no method can be evaluated on {part.task}, because each of them compares "
                "answers, which code does not have; name others, or leave the task out"
            )
    for run in runs:
        _add_evaluation(stages, run)


def _add_evaluation(stages: StageList, run: Evaluation) -> None:
    """A method on a task: lm_eval's own command, which resumes with its cache."""
    part = next(task for task in stages.recipe.tasks if task.task == run.task)
    output = stages.out / "runs" / run.task / run.name
    cache = stages.out / "cache" / run.task / run.name
    servers = stages.recipe.servers
    added = {} if servers is None else servers.row_arguments(run.model, run.arguments)
    arguments = {**run.arguments, **added}
    scratch = [cache.with_name(f"{run.name}_rank0.db{end}") for end in ("", "-journal")]
    if stages.recipe.methods[run.method].trace:
        trace = trace_of(output)
        arguments["trace"] = str(trace)
        scratch += [trace, trace.with_name(trace.name + ".partial")]
    device = _stock_device(stages, arguments) if run.model == STOCK else []
    place_of = functools.partial(stages.place_of, seed=run.seed)
    model_args = model_arguments(stages.recipe, arguments, place_of)
    documents = selected_documents(part, stages.recipe.limits.documents)
    words = ["s2t_eval", "run", "--model", run.model, "--model_args", model_args, "--tasks", run.task]
    words += [*asking(stages.recipe, run.task), *documents.options(run.task), *device, "--log_samples"]
    words += ["--use_cache", str(cache), "--output_path", str(output)]
    samples = int(arguments.get("num_samples", DEFAULT_SAMPLES)) if run.model in RANDOM_MODELS else 1
    loaded = loaded_arguments(arguments)
    roles = [role for role in BOTH if role in references(loaded)]
    count, is_shared = documents.count(run.task) * samples, len(loaded) < len(arguments)
    work = Work.of_texts(count, roles, stages.recipe, is_shared=is_shared)
    fields = stages.argument_fields(run.arguments, run.seed)
    if added:
        compared = model_arguments(stages.recipe, {**arguments, **placeless(added)}, place_of)
        fields["compared"] = tuple(compared if word is model_args else word for word in words)
    stage = Stage(f"{run.task}/{run.name}", EVALUATE, tuple(words), output, run.arguments, **fields)
    stages.add(replace(stage, tasks=(run.task,), scratch=tuple(scratch), work=work))


def _stock_device(stages: StageList, arguments: dict[str, Any]) -> list[str]:
    """The option of lm_eval that names the device of its own backend, taken out of the arguments.

    lm_eval passes its own device to a backend beside the arguments; stock hf refuses to have it twice.
    """
    device = {**row_loading(stages.recipe.models, arguments), **arguments}["device"]
    arguments["device"] = None
    return option("device", device)


def add_results(stages: StageList) -> None:
    """The report, analyses, and the runs as they are committed; each reads this recipe's runs alone.

    Folders of earlier recipes may lie beside theirs: of methods that were dropped or renamed, of more
    seeds. The report comes first: what is made after it may fail, and the table is there all the same.
    """
    runs = [stage for stage in stages.in_order if stage.kind == EVALUATE]
    places, needs = [str(stage.output) for stage in runs], {stage.name: stage.output for stage in runs}
    trace_files = [path for stage in runs for path in stage.scratch if path.name.endswith(TRACE)]
    traces = option("trace", tuple(map(str, trace_files)))
    output, title = stages.out / "report", stages.recipe.title
    words = ["s2t_eval", "report", *places, "--title", title, "--intervals", *traces]
    has_published = any(_is_published(task) for stage in runs for task in stage.tasks)
    words += [*([] if has_published else ["--no_published"]), "--out", str(output)]
    stages.add(Stage("report", "report", tuple(words), output, title, needs))
    if stages.recipe.models.trust:  # its student rescores traced texts, and runs no code of a checkpoint
        trace_files = []
    if stages.recipe.analysis and (stages.recipe.labels is not None or trace_files):
        _add_analysis(stages, places, trace_files, needs)
    for task in dict.fromkeys(task for stage in runs for task in stage.tasks):
        output = stages.out / "kept" / task
        of_task = {stage.name: stage.output for stage in runs if stage.tasks == (task,)}
        command = ("s2t_eval", "keep", *map(str, of_task.values()), "--out", str(output))
        stages.add(Stage(f"{task}/kept", "keep", command, output, None, of_task))


def _add_analysis(
    stages: StageList, places: Sequence[str], traces: Sequence[Path], needs: Mapping[str, Path]
) -> None:
    """Figures on the labels, the runs, the traces and the selectors."""
    output, words = stages.out / "analysis", ["s2t_eval", "analyze"]
    fields: dict[str, Any] = {"needs": dict(needs)}
    if stages.recipe.labels is not None:
        labels = stages.labels()
        words += ["--labels", str(labels.place)]
        if not stages.recipe.models.trust:  # it reads the tokenizer, and runs no code of a checkpoint
            words += ["--pretrained", stages.place_of("student", stages.recipe.seeds[0])]
        fields = merged_fields(fields, labels.fields)
    words += ["--results", *places, *option("trace", tuple(map(str, traces)))]
    if traces:
        words += [*option("texts", RESCORED_TEXTS), *option("device", stages.recipe.models.device)]
        texts = least(RESCORED_TEXTS, stages.recipe.limits.documents) or RESCORED_TEXTS
        fields["work"] = Work.of_texts(len(traces) * texts, ("student",), stages.recipe)
    names = (*stages.recipe.selectors, *stages.recipe.choices)
    selectors = [made for (name, _), made in stages.made.items() if name in names]
    words += option("agreement", tuple(str(made.place) for made in selectors))
    fields = merged_fields(fields, {"needs": {made.stage: made.place for made in selectors}})
    words += ["--out", str(output)]
    stages.add(Stage("analysis", "analyze", tuple(words), output, None, **fields))


def _is_published(task: str) -> bool:
    """Whether there are published numbers on a task's benchmark."""
    return benchmark_of(task).key in set(published()["benchmark"])
