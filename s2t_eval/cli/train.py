"""`s2t-eval train`: a selector and its router from a label set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.flags import (
    Commands,
    add_loading_flags,
    add_loop_flags,
    add_lora_flags,
    given,
    loop_settings,
    student_flags,
)
from s2t_eval.method_table import SCORE_FORMS

if TYPE_CHECKING:
    from s2t_eval.methods.selector_folder import SelectorInfo


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train", help="teach the student to select: adapter, readout, router and thresholds"
    )
    add_loading_flags(parser)
    add = parser.add_argument
    add("--labels", required=True, help="label folder of `s2t-eval collect`")
    add("--out", required=True, help="selector folder; a broken-off run goes on where it stopped")
    add("--start", help="selector folder to go on from: of this student, these labels and this size")
    add(
        "--complete",
        help="selector folder that lacks a router and a default for one proposer: make these alone",
    )
    add("--form", choices=SCORE_FORMS, help="score form")
    add("--score_as", "--score-as", choices=("expected", "log_odds"), help="how bins become a score")
    add("--bins", type=int, help="rows of the readout")
    add("--loss", choices=("ce", "kl", "ranknet"))
    add("--temperature", type=float, help="T of the loss (default: 0.1 for scores in [0, 1], else 1)")
    add("--beta", type=float, help="weight of the regularizer; 0 for a selector that only scores (pps_local)")
    add("--reverse", action="store_true", help="regularize by KL(base || tuned)")
    add_lora_flags(add)
    add("--num_candidates", "--num-candidates", type=int, default=16, help="K in training (default 16)")
    add("--top_k", "--top-k", type=int, default=8, help="K in decoding (default 8)")
    add("--quiet", type=float, default=0.0, help="share of the other steps learnt from too (--steps all)")
    add("--held_out", "--held-out", type=float, default=0.1, help="share of problems never trained on")
    add(
        "--keep", choices=("agree@1", "gain"), default="agree@1", help="held-out figure that chooses the best"
    )
    add_loop_flags(parser)
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Train, and say what was reached."""
    out = Path(parsed.out)
    require_new_folder("--out", out)
    from s2t_eval.methods.selector_folder import load_selector
    from s2t_eval.training.contamination import require_no_evaluation_prompts
    from s2t_eval.training.labels import LabelSet
    from s2t_eval.training.selector.complete import complete_selector
    from s2t_eval.training.selector.model import SelectorSettings
    from s2t_eval.training.selector.run import TrainSettings, train_selector
    from s2t_eval.training.student import load_student

    if parsed.start is not None and parsed.complete is not None:
        raise ValueError("--start and --complete: expected one of them; --complete trains no adapter")
    selector = SelectorSettings(**given(parsed, SelectorSettings))
    settings = TrainSettings(parsed.num_candidates, parsed.top_k, parsed.quiet, parsed.held_out, parsed.keep)
    loop = loop_settings(parsed)
    labels = LabelSet.load(Path(parsed.labels))
    student, tokenizer = load_student(*student_flags(parsed))
    labels.require_student(student.fingerprint, student.vocabulary)
    require_no_evaluation_prompts([row.prompt_ids for row in labels], tokenizer.decode)
    earlier = None
    if (name := parsed.start or parsed.complete) is not None:
        earlier = load_selector(name, student.fingerprint, student.vocabulary, student.hidden_size)
    if parsed.complete is not None:
        assert earlier is not None
        info = complete_selector(student, labels, earlier, out)
    else:
        info = train_selector(student, labels, selector, loop, settings, out, earlier)
    _show(out, info)


def _show(out: Path, info: SelectorInfo) -> None:
    print(f"{out}: {info.form}, {info.training['problems']} problems, {info.training['steps']} steps")
    print("held out:", ", ".join(f"{name} {value:.4g}" for name, value in info.training["held_out"].items()))
    for proposer, report in info.training["triggers"].items():
        for name, found in report.items():
            shown = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            print(f"  {proposer}, {name}: {shown} (n = {info.threshold_steps})")
    for proposer, default in info.defaults.items():
        print(f"default of {proposer}: trigger {default.trigger}, tau {default.tau}, by {default.chosen}")
    print(f"proposal_weight (base) {info.proposal_weight}, adapter_scale (tuned) {info.adapter_scale}")
