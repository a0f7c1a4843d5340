"""Traces of runs, and the texts of one in the form that the page's viewer shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2t_eval.embedded import resolve_model
from s2t_eval.method_table import TEACHER_SCORES
from s2t_eval.report.blocks import has_adapter, is_same_student
from s2t_eval.report.computed import model_arguments
from s2t_eval.report.documents import same_scores
from s2t_eval.report.json_files import ResultsError, read_json_lines
from s2t_eval.report.run import Run
from s2t_eval.report.shape import require_trace

BROKEN = "\ufffd"
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Trace:
    """A trace file: one record for each text, as the backends write them (`trace=FILE`)."""

    path: Path
    records: list[dict[str, Any]]

    @property
    def method(self) -> str:
        """The method of its first text."""
        return str(self.records[0]["method"])


def read_trace(path: Path) -> Trace:
    """Raises `ResultsError` for a file that is missing, cut off, empty or no trace."""
    if not path.exists():
        raise ResultsError(f"{path}: there is no such trace; run a backend with trace={path.name}")
    records = read_json_lines(path)
    if not records:
        raise ResultsError(f"{path}: an empty trace")
    for number, record in enumerate(records, 1):
        try:
            require_trace(record)
        except ValueError as error:
            raise ResultsError(f"{path}:{number}: not a trace of s2t-eval: {error}") from error
    return Trace(path, records)


def run_of_trace(trace: Trace, runs: Sequence[Run]) -> Run | None:
    """The run that wrote the trace: of those with its settings the one whose arguments name the file.

    Files of several folders often have one name, so it counts only where one run has it; None where several
    runs could have written the trace.
    """
    first = trace.records[0]
    candidates = [run for run in runs if (run.method.key, run.task) == (trace.method, first["task"])]
    if first.get("trigger") not in (None, "never"):
        wanted = (first["trigger"], float(first["threshold"]))
        candidates = [
            run for run in candidates if (run.settings.trigger_name, run.settings.threshold) == wanted
        ]
    named = [(run, _trace_of(run)) for run in candidates]
    for is_same in (
        lambda path: path.absolute() == trace.path.absolute(),
        lambda path: path.name == trace.path.name,
    ):
        writers = [run for run, path in named if path is not None and is_same(path)]
        if writers:
            return writers[0] if len(writers) == 1 else None
    return candidates[0] if len(candidates) == 1 else None


def _trace_of(run: Run) -> Path | None:
    """The file that a run's trace was written to, as its arguments name it."""
    named = model_arguments(run.results["config"]).get("trace")
    return Path(str(named)) if named else None


def by_task(trace: Trace) -> list[Trace]:
    """The trace of each task of an evaluation, whose texts are in one file."""
    tasks = dict.fromkeys(record["task"] for record in trace.records)
    return [replace(trace, records=[one for one in trace.records if one["task"] == task]) for task in tasks]


def scores_by_position(run: Run | None) -> dict[int, float]:
    """A run's scores by the place of their documents among its own, the number that traces give them.

    It is the document's number in the data except under `--samples`.
    """
    if run is None or run.documents is None:
        return {}
    scores = run.documents.sort_values("doc_id")["score"].tolist()
    return {position: score for position, score in enumerate(scores) if score == score}


def greedy_control(run: Run, runs: Sequence[Run]) -> Run | None:
    """Greedy decoding of the same model, with the same adapter if it has one, on the same task."""
    method = "tuned" if has_adapter(run) else "greedy"
    wanted = (method, run.model, run.task)
    same = [other for other in runs if (other.method.key, other.model, other.task) == wanted]
    return next((other for other in same if is_same_student(run, other)), None)


def load_decode(model: str) -> Decode:
    """Token ids -> text by a model's tokenizer; raises `ResultsError` where it cannot be loaded."""
    from transformers import AutoTokenizer

    path = resolve_model(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"--tokenizer: {model}: no tokenizer there; give --tokenizer MODEL") from error

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    return decode


def pieces(ids: Sequence[int], decode: Decode) -> list[str]:
    """The text of each token; a character that spans several tokens is returned with the last of them."""
    out, pending = [], []
    for token in ids:
        pending.append(token)
        text = decode(pending)
        is_whole = not text.endswith(BROKEN) or len(pending) > 4
        out.append(text if is_whole else "")
        if is_whole:
            pending = []
    if pending:
        out[-1] = decode(pending)
    return out


def trajectory(record: dict[str, Any], decode: Decode, score: float | None) -> dict[str, Any]:
    """One text for the viewer, in JSON values.

    For s2t, takeover and r2r the scores in the trace are the teacher's probabilities. For other methods they
    are the selector's, and the teacher's probabilities are shown only where the trace has them
    (`teacher_probs`).
    """
    is_teacher = record["method"] in TEACHER_SCORES
    steps = [_step(step, decode, is_teacher) for step in record["steps"]]
    return {
        "task": record["task"],
        "doc": record["doc_id"],
        "sample": record.get("sample", 0),
        "method": record["method"],
        "trigger": record.get("trigger"),
        "score": score,
        "finish": record.get("finish"),
        "prompt": decode(list(record["prompt_ids"])),
        "tokens": pieces(record["output_ids"], decode),
        "steps": steps,
    }


def _step(step: dict[str, Any], decode: Decode, is_teacher: bool) -> dict[str, Any]:
    probabilities = step["scores"] if is_teacher else step.get("teacher_probs")
    return {
        "t": step["t"],
        "divergence": step["divergence"],
        "candidates": [decode([token]) for token in step["candidates"]],
        "scores": None if is_teacher else step["scores"],
        "teacher": probabilities,
        "greedy": decode([step["greedy"]]),
        "picked": decode([step["picked"]]),
        "teacher_token": None if step.get("teacher") is None else decode([step["teacher"]]),
        "picked_at": step["candidates"].index(step["picked"]) if step["picked"] in step["candidates"] else -1,
        "is_flip": step["picked"] != step["greedy"],
    }


def choose_records(
    trace: Trace, max_texts: int, scores: dict[int, float], control: dict[int, float]
) -> Iterator[int]:
    """Indices of at most `max_texts` records: those whose answer changed first, then in document order."""

    def order(index: int) -> tuple[bool, int, int]:
        record = trace.records[index]
        doc = record["doc_id"]
        changed = doc in control and doc in scores and not same_scores(control[doc], scores[doc])
        return (not changed, doc, record.get("sample", 0))

    yield from sorted(range(len(trace.records)), key=order)[:max_texts]
