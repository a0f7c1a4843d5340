"""`s2t-eval choose`: a selector's default is what answers most development problems rightly."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.cli.flags import Commands


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "choose", help="a selector's default trigger and tau, by answers to development problems"
    )
    add = parser.add_argument
    add("results", type=Path, nargs="+", help="runs on a task ending in _dev, such as those of `scan`")
    add("--selector", type=Path, required=True, help="selector folder; its default is rewritten")
    add("--proposer", choices=("base", "tuned"), default="base", help="whose runs to compare (default base)")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Choose, write, and show what it was chosen from."""
    from s2t_eval.methods.selector_folder import write_info
    from s2t_eval.report.cells import accuracy, percent
    from s2t_eval.report.choose import choose
    from s2t_eval.report.runs import read_runs

    chosen = choose(parsed.selector, read_runs(parsed.results), parsed.proposer)
    write_info(parsed.selector, chosen.info)
    for place, candidate in enumerate(chosen.ranked):
        score = accuracy(candidate)
        rate = percent(candidate.cost.get("realised_rate", float("nan")))
        print(
            f"{'  ' if place else '->'} {candidate.label}: {score.correct} of {score.n} correct, "
            f"{percent(score.value)} % (95 % {score.interval_text}), fired at {rate} % of tokens"
        )
    default = chosen.info.default(parsed.proposer)
    print(
        f"{parsed.selector}: default of proposer {parsed.proposer}: trigger {default.trigger}, tau "
        f"{default.tau}, chosen by {default.chosen}"
    )
