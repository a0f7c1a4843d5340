"""`s2t-eval regrade`: the kept texts of results, graded again with the present graders."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2t_eval.artifacts.places import require_file_place
from s2t_eval.cli.flags import Commands

if TYPE_CHECKING:
    from s2t_eval.pipelines.regrade import Verdict

EXITS = "exit codes: 0 graded, 1 a verdict has changed (with --check), 2 results that cannot be graded again"


@dataclass(frozen=True)
class Settings:
    """What `s2t-eval regrade` is given.

    Args:
        results: output folders of lm_eval with their samples, or files and folders of kept runs.
        check: end with exit code 1 where a verdict has changed.
        json: file for old and new verdicts of every document.
    """

    results: tuple[Path, ...]
    check: bool = False
    json: Path | None = None


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "regrade", help="grade kept texts again with the present graders: old and new verdicts", epilog=EXITS
    )
    add = parser.add_argument
    add("results", type=Path, nargs="+", help="output folders of lm_eval, or runs of `s2t-eval keep`")
    add("--check", action="store_true", help="exit code 1 where a verdict has changed")
    add("--json", type=Path, help="also write old and new verdicts of every document here")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Grade, and say what has changed."""
    regrade_results(Settings(tuple(parsed.results), parsed.check, parsed.json))


def regrade_results(settings: Settings) -> None:
    """Grade the texts of all results again, and say what has changed."""
    from s2t_eval.artifacts.files import write_text
    from s2t_eval.pipelines.regrade import RegradeError, regrade
    from s2t_eval.report.kept_texts import find_texts

    if settings.json is not None:
        require_file_place("--json", settings.json)
    runs = [run for path in settings.results for run in find_texts(path)]
    without = [run.source for run in runs if run.texts is None]
    if len(without) == len(runs):
        raise RegradeError(
            f"{without[0]}: no texts beside it; expected samples_*.jsonl of `lm_eval --log_samples`, or the "
            "*.texts.jsonl.gz of `s2t-eval keep`"
        )
    for source in without:
        print(f"note: {source}: no texts beside it; left out", file=sys.stderr)
    graded: dict[str, list[Verdict]] = {}
    for run in runs:
        if run.texts is not None:
            graded[str(run.source)] = regrade(run.texts)
            print(*_lines(str(run.source), graded[str(run.source)]), sep="\n", flush=True)
    changed = sum(verdict.is_changed for verdicts in graded.values() for verdict in verdicts)
    total = sum(map(len, graded.values()))
    print(f"{total} documents of {len(graded)} runs graded again: {changed} verdicts changed")
    if settings.json is not None:
        content = {source: list(map(_record, verdicts)) for source, verdicts in graded.items()}
        write_text(settings.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if settings.check and changed:
        raise SystemExit(1)


def _lines(source: str, verdicts: list[Verdict]) -> list[str]:
    """A line for each task of a run, and one for each document that changed."""
    lines = []
    for task in dict.fromkeys(verdict.text.task for verdict in verdicts):
        part = [verdict for verdict in verdicts if verdict.text.task == task]
        changed = [verdict for verdict in part if verdict.is_changed]
        old, new = (
            f"{sum(v or 0.0 for v in of):g}" for of in ((v.text.verdict for v in part), (v.new for v in part))
        )
        won, lost = sum(v.is_won for v in part), sum(v.is_lost for v in part)
        lines.append(
            f"{source}: {task}, {part[0].text.metric}: {old} -> {new} of {len(part)}, {won} won, {lost} lost"
        )
        lines += [f"  {verdict.line()}" for verdict in changed]
    return lines


def _record(verdict: Verdict) -> dict[str, object]:
    text = verdict.text
    return {
        "task": text.task,
        "doc_id": text.doc_id,
        "old": text.verdict,
        "new": verdict.new,
        "answer": verdict.answer,
    }
