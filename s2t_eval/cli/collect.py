"""`s2t-eval collect`: rollouts of a student and one teacher prefill each, kept as a label set."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.places import require_own_folder
from s2t_eval.cli.flags import Commands, add_model_flags, require_flags, require_model_flags
from s2t_eval.ranges import RATE


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "collect", help="label a student's own texts with a teacher, on training problems"
    )
    add_model_flags(parser)
    add = parser.add_argument
    add("--teacher", required=True, help="the larger model that labels")
    add("--task", help="lm_eval task with a training split")
    add("--data", help="FILE.jsonl, NAME:SPLIT or NAME:CONFIG:SPLIT with a question field")
    add("--limit", type=int, default=500, help="problems (default 500)")
    add("--skip", type=int, default=0, help="problems to leave out at the beginning")
    add("--num_fewshot", "--num-fewshot", type=int, default=0)
    add("--tau", type=float, default=0.1, help="rate of steps, by KL, that get candidates (default 0.1)")
    add("--steps", choices=("top", "all"), default="top", help="keep candidates there, or at every step")
    add(
        "--teacher_context",
        "--teacher-context",
        help="what only the teacher sees: `solution`, or a JSON-lines FILE of question and context",
    )
    add("--evaluation", nargs="+", default=[], help="more JSON-lines files whose problems are refused")
    add("--drop_overlap", "--drop-overlap", action="store_true", help="leave evaluation problems out")
    add("--out", required=True, help="label folder; a broken-off run goes on where it stopped")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Collect, and say what the set holds."""
    from s2t_eval.pipelines import collect as collection
    from s2t_eval.pipelines.prompts import Prompting

    if (parsed.task is None) == (parsed.data is None):
        raise ValueError("expected one of --task NAME and --data FILE|NAME:SPLIT")
    require_flags(parsed, tau=RATE)
    require_model_flags(parsed)
    folder = Path(parsed.out)
    signs = ["manifest.json", "work/settings.json"]
    require_own_folder("--out", folder, "an unfinished one of `s2t-eval collect`", signs, parents=False)
    prompting = Prompting(
        parsed.system_instruction, parsed.apply_chat_template, parsed.num_fewshot, parsed.max_gen_toks
    )
    settings = collection.Collection(
        parsed.tau, parsed.steps, parsed.teacher_context, parsed.drop_overlap, tuple(parsed.evaluation)
    )
    lm = collection.load_pair(
        parsed.pretrained,
        parsed.teacher,
        dtype=parsed.dtype,
        device=parsed.device,
        batch_size=parsed.batch_size,
        trust_remote_code=parsed.trust_remote_code,
    )
    source = collection.Source(parsed.task, parsed.data, parsed.limit, parsed.skip)
    manifest = collection.collect(lm, source, prompting, settings, folder)
    print(
        f"{folder}: {manifest.data['problems']} problems, {manifest.num_steps} steps, "
        f"{manifest.num_top} of them above KL {manifest.kl_threshold:.4g} (top {manifest.tau:.0%}), "
        f"candidates at {manifest.num_kept}"
    )
    hits = ", ".join(f"Hit@{k} {100 * rate:.1f} %" for k, rate in manifest.hit_rate.items())
    print(f"{hits} (n = {manifest.num_top})")
