"""`s2t-eval reproduce`: a recipe from models to tables, figures and page, resumed anywhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

from s2t_eval.cli.execute import INTERRUPTED
from s2t_eval.reproduce.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Reproduce(Settings):
    """Run a recipe: labels, training, evaluation, tables; the same command resumes an interrupted run.

    Exit codes: 0 done, 2 a recipe or a step that cannot be run, 130 interrupted.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval reproduce embedded --out reproduced --plan"

    def run(self) -> None:
        """Run the recipe and print the table."""
        from s2t_eval.reproduce.run import reproduce, show
        from s2t_eval.reproduce.stage_runner import InterruptedRunError
        from s2t_eval.reproduce.summary import print_summary

        try:
            out, recipe = reproduce(self, show)
        except InterruptedRunError as error:
            print(f"s2t-eval reproduce: {error}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from error
        if not self.plan:
            print_summary(recipe, out)
            show(f"{out / 'report' / 'report.html'}: tables, figures and texts")
            show(f"{out / 'recipe.lock'}: what they were made with")
