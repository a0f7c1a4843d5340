"""`s2t-eval report`: the paper's tables and figures from harness results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.command import require_flags
from s2t_eval.cli.metrics import metric_choices, require_used
from s2t_eval.ranges import AT_LEAST_0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write tables (md, latex, csv), figures and a page with a trajectory viewer.

    Args:
        results: output folders of lm_eval, or files of results/baselines.
        format: formats to write, separated by commas.
        out: folder to write; it is made where it does not exist.
        title: title of the page.
        intervals: show n and 95 % intervals in the main table.
        no_published: leave the paper's numbers out.
        no_times: leave seconds and memory out.
        mixed: accept runs of different commits, dtypes or limits, which are then named below each table.
        metric: TASK=METRIC,FILTER where a task has several metrics.
        student: MODEL=STUDENT, which puts a checkpoint into a student's block.
        trace: trace files for the viewer.
        tokenizer: tokenizer of the traces. None: the pretrained model of the run that wrote them.
        texts: number of texts to show of each task of a trace.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval report results/baselines/embedded --intervals --out report"

    results: tuple[Path, ...] = field(kw_only=False)
    format: str = "md,latex,csv,html"
    out: Path
    title: str = "s2t-eval report"
    intervals: bool = False
    no_published: bool = False
    no_times: bool = False
    mixed: bool = False
    metric: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    trace: tuple[Path, ...] = ()
    tokenizer: str | None = None
    texts: int = 20

    def run(self) -> None:
        """Write the report and print the names of its files."""
        from s2t_eval.report.runs import read_runs
        from s2t_eval.report.write import Options, report

        formats = self._formats()
        self._require_consistent(formats)
        if any("=" not in pair for pair in self.student):
            raise ValueError(f"--student: expected MODEL=STUDENT, got {' '.join(self.student)!r}")
        require_flags(self, texts=AT_LEAST_0)
        require_reusable_folder(self.out, "one of `s2t-eval report`", ["accuracy.svg"])
        metrics, names = metric_choices(self.metric), dict(pair.rsplit("=", 1) for pair in self.student)
        runs = read_runs(list(self.results), metrics)
        require_used(metrics, [run.task for run in runs])
        models = sorted({run.model for run in runs})
        foreign = [model for model in names if model not in models]
        if foreign:
            raise ValueError(f"--student: no run is of model {foreign[0]!r}; there are {', '.join(models)}")
        options = Options(
            title=self.title,
            formats=formats,
            intervals=self.intervals,
            with_published=not self.no_published,
            times=not self.no_times,
            mixed=self.mixed,
            names=names,
        )
        texts = self._texts(runs)
        for path in report(runs, self.out, options, texts):
            print(path)

    def _require_consistent(self, formats: list[str]) -> None:
        """Raise `ValueError` for options without effect beside the others."""
        if self.tokenizer is not None and not self.trace:
            raise ValueError("--tokenizer: it is that of --trace; give both, or neither")
        if self.trace and "html" not in formats:
            raise ValueError("--trace: its texts are on the page; add html to --format, or leave it out")

    def _formats(self) -> list[str]:
        """The formats to write; raises `ValueError` for an unknown one."""
        from s2t_eval.report.write import FORMATS

        formats = [name.strip() for name in self.format.split(",")]
        unknown = [name for name in formats if name not in FORMATS]
        if unknown:
            raise ValueError(f"--format: expected some of {', '.join(FORMATS)}, got {unknown[0]!r}")
        return formats

    def _texts(self, runs: list[Any]) -> list[dict[str, Any]]:
        """The texts of the traces, for the viewer."""
        from s2t_eval.report.traces import load_decode, read_trace, run_of_trace
        from s2t_eval.report.write import viewer_texts

        texts = []
        for path in self.trace:
            trace = read_trace(path)
            source = run_of_trace(trace, runs)
            name = self.tokenizer or (source.model if source else None)
            if name is None:
                raise ValueError(
                    f"{path}: this trace belongs to none of the runs, so its tokenizer is unknown; give "
                    "--tokenizer MODEL"
                )
            texts += viewer_texts([trace], runs, load_decode(name), self.texts)
        return texts
