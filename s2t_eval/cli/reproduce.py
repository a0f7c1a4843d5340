"""`s2t-eval reproduce`: a recipe from models to tables, figures and page, resumed anywhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from s2t_eval.cli.execute import INTERRUPTED


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Run a recipe: labels, training, evaluation, tables; the same command resumes an interrupted run.

    Exit codes: 0 done, 2 a recipe or a step that cannot be run, 130 interrupted.

    Args:
        recipe: YAML file, or the name of a shipped recipe: embedded, embedded-search, qwen-gsm8k,
            qwen-gsm8k-compared, qwen-gsm8k-gpu or paper.
        out: folder of everything that is made.
        plan: print the steps, what is done and how long the rest will take, and run nothing.
        set: changes of single places of the recipe, KEY.KEY=VALUE.
        keep: finished steps that stay although s2t-eval itself has changed since.
        jobs: steps at work at once, those that need nothing of each other; meant for a large GPU. On a CPU
            they only slow each other down. Seconds in the tables are then those of a shared machine.
        keep_going: after a step has failed, still run those that do not need it.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval reproduce embedded --out reproduced --plan"

    recipe: str = field(kw_only=False)
    out: Path
    plan: bool = False
    set: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    jobs: int = 1
    keep_going: bool = False

    def run(self) -> None:
        """Run the recipe and print the table."""
        from s2t_eval.reproduce.run import Settings, reproduce, show
        from s2t_eval.reproduce.stage_runner import InterruptedRunError
        from s2t_eval.reproduce.summary import print_summary

        settings = Settings(self.recipe, self.out, self.plan, self.set, self.keep, self.jobs, self.keep_going)
        try:
            out, recipe = reproduce(settings, show)
        except InterruptedRunError as error:
            print(f"s2t-eval reproduce: {error}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from error
        if not self.plan:
            print_summary(recipe, out)
            show(f"{out / 'report' / 'report.html'}: tables, figures and texts")
            show(f"{out / 'recipe.lock'}: what they were made with")
