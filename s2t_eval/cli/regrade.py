"""`s2t-eval regrade`: the kept texts of results, graded again with the present graders."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from s2t_eval.artifacts.output_paths import require_writable_file

if TYPE_CHECKING:
    from s2t_eval.pipelines.regrade import RegradedText
    from s2t_eval.report.kept_texts import RunTexts


@dataclass(frozen=True, kw_only=True)
class Regrade:
    """Grade kept texts again with the present graders and print old and new verdicts.

    Exit codes: 0 graded, 1 a verdict has changed (with --check), 2 results that cannot be graded again.

    Args:
        results: output folders of lm_eval with their samples, or runs of `s2t-eval keep`.
        check: end with exit code 1 where a verdict has changed, and with 2 where a run has no texts.
        json: file to write old and new verdicts of every document to.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval regrade results/baselines/embedded/greedy.json --check"

    results: tuple[Path, ...] = field(kw_only=False)
    check: bool = False
    json: Path | None = None

    def run(self) -> None:
        """Grade the texts, and print what has changed."""
        from s2t_eval.artifacts.files import write_text
        from s2t_eval.pipelines.regrade import regrade

        if self.json is not None:
            require_writable_file("--json", self.json)
        graded: dict[str, list[RegradedText]] = {}
        for run in self._runs():
            if run.texts is not None:
                graded[str(run.source)] = regrade(run.texts)
                print(*_lines(str(run.source), graded[str(run.source)]), sep="\n", flush=True)
        changed = sum(verdict.is_changed for verdicts in graded.values() for verdict in verdicts)
        total = sum(map(len, graded.values()))
        print(f"{total} documents of {len(graded)} runs graded again: {changed} verdicts changed")
        if self.json is not None:
            content = {source: list(map(_record, verdicts)) for source, verdicts in graded.items()}
            write_text(self.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        if self.check and changed:
            raise SystemExit(1)

    def _runs(self) -> list[RunTexts]:
        """The runs; those without texts are named, and refused with `--check` or where none has any."""
        from s2t_eval.pipelines.regrade import RegradeError
        from s2t_eval.report.kept_texts import find_texts

        runs = [run for path in self.results for run in find_texts(path)]
        textless = [run.source for run in runs if run.texts is None]
        are_some = len(textless) < len(runs)
        if textless and (self.check or not are_some):
            without = "; without --check the other runs are graded" if are_some else ""
            raise RegradeError(
                f"{textless[0]}: no texts beside it; expected samples_*.jsonl of `lm_eval --log_samples`, or "
                f"the *.texts.jsonl.gz of `s2t-eval keep`{without}"
            )
        for source in textless:
            print(f"note: {source}: no texts beside it; left out", file=sys.stderr)
        return runs


def _lines(source: str, verdicts: list[RegradedText]) -> list[str]:
    """A line for each task of a run, and one for each document that changed."""
    lines = []
    for task in dict.fromkeys(verdict.text.task for verdict in verdicts):
        part = [verdict for verdict in verdicts if verdict.text.task == task]
        changed = [verdict for verdict in part if verdict.is_changed]
        old, new = _sum([v.text.verdict for v in part]), _sum([v.new for v in part])
        won, lost = sum(v.is_won for v in part), sum(v.is_lost for v in part)
        lines.append(
            f"{source}: {task}, {part[0].text.metric}: {old} -> {new} of {len(part)}, {won} won, {lost} lost"
        )
        lines += [f"  {verdict.line()}" for verdict in changed]
    return lines


def _sum(verdicts: list[float | None]) -> str:
    """The number of right answers; "none" where no document had a verdict, as under --predict_only."""
    known = [verdict for verdict in verdicts if verdict is not None]
    return f"{sum(known):g}" if known else "none"


def _record(verdict: RegradedText) -> dict[str, object]:
    text = verdict.text
    return {
        "task": text.task,
        "doc_id": text.doc_id,
        "old": text.verdict,
        "new": verdict.new,
        "answer": verdict.answer,
    }
