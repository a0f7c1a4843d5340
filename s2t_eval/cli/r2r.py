"""`s2t-eval r2r label | train`: labels of a teacher's texts, and a router from them (R2R)."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from s2t_eval.artifacts.places import require_new_folder, require_own_folder
from s2t_eval.cli.flags import (
    Commands,
    add_loading_flags,
    add_loop_flags,
    given,
    loop_settings,
    student_flags,
)
from s2t_eval.cli.source import add_source_flags, load_options, read_source, require_source

if TYPE_CHECKING:
    from s2t_eval.methods.r2r_folder import RouterInfo
    from s2t_eval.training.r2r.labels import Manifest

RULES = ("reconverge", "answer", "judge", "regret")
"""Of `training.r2r.rules.LabelSettings`; a test compares them."""


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "r2r", help="label a teacher's texts and train a router on them (R2R)"
    )
    parts = parser.add_subparsers(dest="part", required=True)
    _add_label(
        parts.add_parser("label", help="the teacher's texts, and which of the student's tokens diverge")
    )
    _add_train(parts.add_parser("train", help="a router from these labels, and its thresholds"))


def _add_label(parser: argparse.ArgumentParser) -> None:
    add_source_flags(parser, limit=500)
    add = parser.add_argument
    add("--teacher", required=True, help="the larger model, which writes and continues the texts")
    add("--rule", choices=RULES, help="how mismatches are labelled (reconverge)")
    add("--max_sentence", "--max-sentence", type=int, help="tokens of a continuation (48)")
    add("--max_edit", "--max-edit", type=float, help="reconverge: largest edit distance (0.3)")
    add("--min_regret", "--min-regret", type=float, help="regret: nats (1.0)")
    add("--validate", type=float, help="share of problems at which the rule is checked by answers (0.05)")
    add("--num_logits", "--num-logits", type=int, default=100, help="of the student, kept (100)")
    add("--out", required=True, help="label folder; an interrupted run is resumed")
    parser.set_defaults(function=label)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_loading_flags(parser)
    add = parser.add_argument
    add("--labels", required=True, help="folder of `s2t-eval r2r label`")
    add("--out", required=True, help="router's folder; an interrupted run is resumed")
    add("--width", type=int, help="of the router (256; the paper: 1024)")
    add("--blocks", type=int, help="residual blocks of the router (6)")
    add("--num_logits", "--num-logits", type=int, help="largest logits that it reads (100)")
    add("--dropout", type=float, help="of the router (0.1)")
    add("--held_out", "--held-out", type=float, help="share of problems never learnt from (0.2)")
    add("--recall_factor", "--recall-factor", type=float, help="times the weight of divergent tokens (1)")
    add("--by", choices=("recall", "rate"), help="what chooses the threshold (recall)")
    add("--recall", type=float, help="of divergent tokens (0.95)")
    add("--tau", type=float, help="rate of the teacher's tokens (0.05)")
    add_loop_flags(parser)
    parser.set_defaults(function=train)


def label(parsed: argparse.Namespace) -> None:
    """Label, and say what the set holds."""
    require_source(parsed)
    folder = Path(parsed.out)
    signs = ["manifest.json", "work/settings.json"]
    require_own_folder("--out", folder, "an unfinished one of `s2t-eval r2r label`", signs, parents=False)
    from s2t_eval.pipelines.collect import load_pair
    from s2t_eval.pipelines.r2r_labels import Labelling
    from s2t_eval.pipelines.r2r_labels import label as label_set
    from s2t_eval.training.r2r.rules import LabelSettings

    settings = Labelling(
        LabelSettings(**given(parsed, LabelSettings)), parsed.num_logits, parsed.drop_overlap
    )
    source, prompting = read_source(parsed)
    lm = load_pair(parsed.pretrained, parsed.teacher, **load_options(parsed))
    _show_labels(folder, label_set(lm, source, prompting, settings, folder))


def _show_labels(folder: Path, manifest: Manifest) -> None:
    from s2t_eval.training.r2r.labels import PUBLISHED

    steps = manifest.num_identical + manifest.num_neutral + manifest.num_divergent
    print(
        f"{folder}: {manifest.num_texts} texts of the teacher ({manifest.num_unfinished} unfinished), "
        f"{steps} tokens, {manifest.num_unscored} more without a verdict"
    )
    print("identical / neutral / divergent, %:", " / ".join(f"{share:.1f}" for share in manifest.shares))
    print("published (32B and 1.5B), %:       ", " / ".join(f"{share:.1f}" for share in PUBLISHED))
    if manifest.validation is not None and manifest.validation["mismatches"]:
        found = manifest.validation
        print(
            f"checked by answers: agreement {found['agreement']:.3f}, kappa {found['kappa']:.3f} "
            f"(n = {found['mismatches']:.0f} mismatches; divergent {100 * found['divergent_by_rule']:.1f} % "
            f"by the rule, {100 * found['divergent_by_answer']:.1f} % by answers)"
        )
    print("tokens:", ", ".join(f"{name} {count:,}" for name, count in manifest.cost.items()))


def train(parsed: argparse.Namespace) -> None:
    """Train, and say what was reached."""
    out = Path(parsed.out)
    require_new_folder("--out", out)
    from s2t_eval.selection.divergence_router import RouterSize
    from s2t_eval.training.contamination import require_no_evaluation_prompts
    from s2t_eval.training.r2r.figures import ThresholdSettings
    from s2t_eval.training.r2r.labels import R2RLabels
    from s2t_eval.training.r2r.train import LOOP, RouterTrainSettings, train_router
    from s2t_eval.training.student import load_student

    size = RouterSize(**given(parsed, RouterSize))
    settings = RouterTrainSettings(**given(parsed, RouterTrainSettings))
    threshold = ThresholdSettings(**given(parsed, ThresholdSettings))
    loop = loop_settings(parsed, **{k: v for k, v in asdict(LOOP).items() if k != "log_with"})
    labels = R2RLabels.load(Path(parsed.labels))
    student, tokenizer = load_student(*student_flags(parsed))
    labels.require_student(student.fingerprint, student.vocabulary)
    require_no_evaluation_prompts([text.prompt_ids.tolist() for text in labels], tokenizer.decode)
    _show_router(out, train_router(student, labels, size, loop, settings, threshold, out))


def _show_router(out: Path, info: RouterInfo) -> None:
    at, training = info.held_out, info.training
    print(
        f"{out}: {training['problems']} problems, {training['steps']} steps, the best after "
        f"{training['best_step']}"
    )
    print(
        f"threshold {info.threshold:.4g}, by {info.chosen_by} on {training['validation_problems']} problems"
    )
    print(
        f"on {at['problems']} further problems: recall {100 * (at['recall'] or 0):.1f} % at a positive "
        f"rate of {100 * at['positive_rate']:.1f} % (n = {at['steps']:.0f} tokens, "
        f"{at['divergent']:.0f} divergent)"
    )
    for name, found in at["signals"].items():
        shown = ", ".join(f"{key} {value:.3f}" for key, value in found.items() if value is not None)
        print(f"  {name}: {shown}")
