"""`s2t-eval collect`: rollouts of a student and one teacher prefill each, kept as a label set."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.flags import Commands, require_flags
from s2t_eval.cli.source import add_source_flags, load_options, read_source, require_source
from s2t_eval.ranges import RATE


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "collect", help="label a student's own texts with a teacher, on training problems"
    )
    add_source_flags(parser, limit=500)
    add = parser.add_argument
    add("--teacher", required=True, help="the larger model that labels")
    add("--tau", type=float, default=0.1, help="rate of steps, by KL, that get candidates (default 0.1)")
    add("--steps", choices=("top", "all"), default="top", help="keep candidates there, or at every step")
    add(
        "--teacher_context",
        "--teacher-context",
        help="what only the teacher sees: `solution`, or a JSON-lines FILE of question and context",
    )
    add("--evaluation", nargs="+", default=[], help="more JSON-lines files whose problems are refused")
    add("--out", required=True, help="label folder; a broken-off run goes on where it stopped")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Collect, and say what the set holds."""
    from s2t_eval.pipelines import collect as collection

    require_source(parsed)
    require_flags(parsed, tau=RATE)
    folder = Path(parsed.out)
    patterns = ["manifest.json", "work/settings.json"]
    require_reusable_folder(
        "--out", folder, "an unfinished one of `s2t-eval collect`", patterns, parents=False
    )
    source, prompting = read_source(parsed)
    settings = collection.Collection(
        parsed.tau, parsed.steps, parsed.teacher_context, parsed.drop_overlap, tuple(parsed.evaluation)
    )
    lm = collection.load_pair(parsed.pretrained, parsed.teacher, **load_options(parsed))
    manifest = collection.collect(lm, source, prompting, settings, folder)
    print(
        f"{folder}: {manifest.data['problems']} problems, {manifest.num_steps} steps, "
        f"{manifest.num_top} of them above KL {manifest.kl_threshold:.4g} (top {manifest.tau:.0%}), "
        f"candidates at {manifest.num_kept}"
    )
    hits = ", ".join(f"Hit@{k} {100 * rate:.1f} %" for k, rate in manifest.hit_rate.items())
    print(f"{hits} (n = {manifest.num_top})")
