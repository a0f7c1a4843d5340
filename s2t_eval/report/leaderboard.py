"""The two forms of the Hub, by huggingface_hub's own classes: `.eval_results/*.yaml` and model-index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
    parse_eval_result_entries,
)
from huggingface_hub.repocard_data import model_index_to_eval_results

from s2t_eval.artifacts.files import write_text
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.run import Run
from s2t_eval.report.submission import (
    Claim,
    date,
    details,
    folder_name,
    is_plain,
    label,
    notes,
    prompt_hash,
    require_names,
    require_whole,
    score,
    slug,
)
from s2t_eval.report.table import md


def write_eval_results(runs: Sequence[Run], folder: Path, claim: Claim) -> list[Path]:
    """`FOLDER/METHOD/.eval_results/BENCHMARK.yaml`, to be added to a model's repository.

    Raises:
        ResultsError: partial runs, unknown datasets, runs without samples.
    """
    require_whole(runs, claim)
    require_names([(f"{folder_name(run)}, {benchmark_of(run.task).title}", run) for run in runs])
    texts: dict[Path, str] = {}
    for run in runs:
        dataset, task = claim.dataset(run)
        entry = EvalResultEntry(
            dataset_id=dataset,
            task_id=task,
            value=score(run),
            date=date(run),
            source_url=claim.source_url,
            source_org=claim.organization if claim.source_url else None,
            notes=notes(run),
        )
        content = eval_result_entries_to_yaml([entry])
        assert parse_eval_result_entries(content) == [entry]
        path = folder / folder_name(run) / ".eval_results" / f"{slug(benchmark_of(run.task).title)}.yaml"
        texts[path] = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return _write(texts)


def write_model_index(runs: Sequence[Run], folder: Path, claim: Claim) -> list[Path]:
    """`FOLDER/METHOD/README.md`: a model card with the scores of one method in its metadata."""
    require_whole(runs, claim)
    require_names([(f"{folder_name(run)}, {benchmark_of(run.task).title}", run) for run in runs])
    texts: dict[Path, str] = {}
    for name in dict.fromkeys(map(folder_name, runs)):
        part = [run for run in runs if folder_name(run) == name]
        model = claim.model(part[0])
        title = model if is_plain(part[0]) else f"{model} decoded with {label(part[0])}"
        data = ModelCardData(
            model_name=title,
            base_model=model,
            library_name="s2t-eval",
            tags=["s2t-eval", part[0].method.key],
            eval_results=[_eval_result(run, claim) for run in part],
        )
        lines = [f"# {md(title)}", ""]
        for run in part:
            lines += [f"- {benchmark_of(run.task).title}: {score(run)} % {run.metric}. {md(notes(run))}", ""]
        text = f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines)
        index = ModelCard(text).data.to_dict()["model-index"]
        assert len(model_index_to_eval_results(index)[1]) == len(part)
        texts[folder / name / "README.md"] = text
    return _write(texts)


def _eval_result(run: Run, claim: Claim) -> EvalResult:
    dataset, _ = claim.dataset(run)
    return EvalResult(
        task_type="text-generation",
        task_name=f"{run.task} (version {run.version})",
        dataset_type=dataset,
        dataset_name=benchmark_of(run.task).title,
        dataset_args={"n": run.n, "prompt_hash": prompt_hash(run)},
        metric_type=run.metric,
        metric_name=run.metric if is_plain(run) else f"{run.metric}, decoded with {label(run)}",
        metric_args=details(run),
        metric_value=score(run),
        source_url=claim.source_url,
        source_name=claim.organization or ("s2t-eval" if claim.source_url else None),
    )


def _write(texts: dict[Path, str]) -> list[Path]:
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return list(texts)
