"""`s2t-eval keep`: results small enough to commit, with texts that can be graded again."""

from __future__ import annotations

from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import ClassVar

from s2t_eval.artifacts.output_paths import require_reusable_folder


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Write runs small enough to commit: results, a line a document, and compressed texts.

    Args:
        results: output folders of lm_eval, made with `--log_samples`.
        out: folder to write; it is made where it does not exist. A run that was kept there under the same
            name is renewed; one of another model, task or setting is not replaced.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval keep runs/greedy --out kept"

    results: tuple[Path, ...] = field(kw_only=False)
    out: Path

    def run(self) -> None:
        """Write the runs and print the names of their files."""
        from s2t_eval.report.baseline import is_kept_run, require_no_other_run, write_baselines
        from s2t_eval.report.kept_texts import SUFFIX, text_files
        from s2t_eval.report.runs import read_runs

        kept = [escape(path.name) for path in self.out.glob("*.json") if is_kept_run(path)]
        require_reusable_folder(self.out, "one of `s2t-eval keep`", [f"*{SUFFIX}", *kept])
        runs = read_runs(list(self.results))
        require_no_other_run(runs, self.out)
        self.out.mkdir(parents=True, exist_ok=True)
        for path in write_baselines(runs, self.out):
            files = text_files(path.with_name(path.stem + SUFFIX))
            size = sum(file.stat().st_size for file in files) / 1000
            parts = f" in {len(files)} files" if len(files) > 1 else ""
            print(f"{path}, {size:.0f} kB of texts{parts}" if files else f"{path}, no texts")
