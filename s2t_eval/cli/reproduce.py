"""`s2t-eval reproduce`: a recipe from models to tables, figures and page, resumed anywhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from s2t_eval.cli.flags import Commands

EXITS = "exit codes: 0 done, 2 a recipe or a step that cannot be run, 130 interrupted"


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reproduce", help="run a recipe: labels, training, evaluation, tables; resumes anywhere", epilog=EXITS
    )
    add = parser.add_argument
    add("recipe", help="YAML file, or the name of a shipped recipe: embedded, qwen-gsm8k, paper")
    add("--out", type=Path, required=True, help="folder of everything that is made; the same command resumes")
    add("--plan", action="store_true", help="show the steps, what is done and how long the rest takes")
    add("--set", nargs="+", action="extend", default=[], help="KEY.KEY=VALUE changes of the recipe")
    add(
        "--keep", nargs="+", action="extend", default=[], help="finished steps that stay for a newer s2t-eval"
    )
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Run the recipe, and show the table."""
    from s2t_eval.reproduce.read import read_recipe
    from s2t_eval.reproduce.run import InterruptedRunError, Settings, reproduce, show
    from s2t_eval.reproduce.summary import print_summary

    settings = Settings(parsed.recipe, parsed.out, parsed.plan, tuple(parsed.set), tuple(parsed.keep))
    try:
        out = reproduce(settings, show)
    except InterruptedRunError as error:
        print(f"s2t-eval reproduce: {error}", file=sys.stderr)
        raise SystemExit(130) from error
    if not settings.plan:
        print_summary(read_recipe(settings.recipe, settings.set).recipe, out)
        show(f"{out / 'report' / 'report.html'}: tables, figures and texts")
        show(f"{out / 'recipe.lock'}: what they were made with")
