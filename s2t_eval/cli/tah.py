"""`s2t-eval tah label | train | plain`: labels, passes (stage 1) and decider (stage 2), and their control."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.output_paths import require_new_folder, require_reusable_folder
from s2t_eval.cli.flags import (
    Commands,
    add_loading_flags,
    add_loop_flags,
    add_lora_flags,
    given,
    loop_settings,
    student_flags,
)
from s2t_eval.cli.source import add_source_flags, load_options, read_source, require_source

LORA_LR, BASE_LR, DECIDER_LR = 2e-4, 4e-5, 3e-4
DEPTH_FLAGS = ("max_depth", "top_n", "rank", "alpha", "dropout", "train_base", "easy")
DECIDER_FLAGS = ("layers", "width", "blocks", "positive_weight", "threshold", "decoding_threshold")


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "tah", help="train a looped student (Think-at-Hard)"
    )
    parts = parser.add_subparsers(dest="part", required=True)
    _add_label(parts.add_parser("label", help="find out which tokens of reference texts are hard"))
    _add_train(parts.add_parser("train", help="train the passes (--stage 1), then the decider (--stage 2)"))
    _add_plain(
        parts.add_parser("plain", help="the control: plain tuning of the same adapter on the same texts")
    )


def _add_label(parser: argparse.ArgumentParser) -> None:
    add_source_flags(parser, limit=500, use="; its solutions are the texts")
    add = parser.add_argument
    add("--texts", help="label folder of `s2t-eval collect`; its texts are used, such as a teacher's")
    add("--out", required=True, help="folder to write")
    parser.set_defaults(function=label)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_loading_flags(parser)
    add = parser.add_argument
    add("--labels", required=True, help="folder of `s2t-eval tah label`")
    add("--stage", type=int, choices=(1, 2), required=True)
    add("--out", required=True, help="tah folder: stage 1 makes it, stage 2 completes it")
    add("--held_out", "--held-out", type=float, help="share of questions never trained on (0.1)")
    one = parser.add_argument_group("stage 1")
    one.add_argument("--max_depth", "--max-depth", type=int, help="most passes a token (2)")
    one.add_argument("--top_n", "--top-n", type=int, help="tokens mixed into the next input (100)")
    add_lora_flags(one.add_argument, dropout=0.1)
    one.add_argument("--train_base", "--train-base", action="store_true", default=None)
    one.add_argument("--easy", type=float, help="share of easy tokens looked at again too (0)")
    two = parser.add_argument_group("stage 2")
    two.add_argument("--layers", type=int, nargs="+", help="layers that the decider reads")
    two.add_argument("--width", type=int, help="of the decider (256)")
    two.add_argument("--blocks", type=int, help="of the decider (6)")
    two.add_argument("--positive_weight", "--positive-weight", type=float, help="of hard tokens (5)")
    two.add_argument("--threshold", type=float, help="of held-out figures (0.8)")
    two.add_argument(
        "--decoding_threshold", "--decoding-threshold", type=float, help="kept as decoding's (0.9)"
    )
    add_loop_flags(parser)
    parser.set_defaults(function=train)


def _add_plain(parser: argparse.ArgumentParser) -> None:
    add_loading_flags(parser)
    add = parser.add_argument
    add("--labels", required=True, help="folder of `s2t-eval tah label`; only its texts are used")
    add(
        "--out",
        required=True,
        help="adapter to write, for --model greedy --model_args pretrained=...,peft=OUT",
    )
    add("--held_out", "--held-out", type=float, help="share of questions never trained on (0.1)")
    add_lora_flags(add, dropout=0.1)
    add_loop_flags(parser)
    parser.set_defaults(function=plain)


def label(parsed: argparse.Namespace) -> None:
    """Write labels, and say how many tokens are hard."""
    from s2t_eval.pipelines import tah_labels
    from s2t_eval.pipelines.calibrate import load_lm
    from s2t_eval.pipelines.prompts import source_prompts

    require_source(parsed, "--texts FOLDER")
    _require_texts_alone(parsed)
    out = Path(parsed.out)
    require_new_folder("--out", out)
    lm = load_lm(parsed.pretrained, None, **load_options(parsed))
    prompt: dict[str, Any] = {}
    if parsed.texts is not None:
        texts, data = tah_labels.collected(lm, Path(parsed.texts))
    else:
        source, prompting = read_source(parsed)
        posed = source_prompts(lm, source, prompting)
        texts = tah_labels.solutions(lm, posed, prompting, parsed.drop_overlap)
        data = {"source": posed.source, "split": posed.split, "skip": source.skip}
        prompt = vars(prompting)
    labels = tah_labels.label(lm, texts, data, prompt)
    labels.save(out)
    found = labels.manifest
    hard = f"{found.num_hard} of them hard ({found.num_hard / found.num_steps:.1%})"
    print(f"{out}: {len(labels)} texts, {found.num_steps} tokens, {hard}")


def _require_texts_alone(parsed: argparse.Namespace) -> None:
    """Raise `ValueError` for flags that choose or pose problems beside `--texts`, which has both."""
    names = ("limit", "skip", "num_fewshot", "drop_overlap", "system_instruction", "apply_chat_template")
    named = [name for name in (*names, "max_gen_toks") if getattr(parsed, name)]
    if parsed.texts is not None and named:
        raise ValueError(f"--{named[0]}: the texts of --texts are taken as they are; leave it out")


def train(parsed: argparse.Namespace) -> None:
    """Train one stage, and say what was reached."""
    from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings
    from s2t_eval.training.contamination import require_no_evaluation_prompts
    from s2t_eval.training.student import load_student
    from s2t_eval.training.tah.labels import TahLabels
    from s2t_eval.training.tah.train import (
        DecisionSettings,
        DepthSettings,
        train_decider,
        train_depths,
    )

    out = Path(parsed.out)
    foreign = DECIDER_FLAGS if parsed.stage == 1 else DEPTH_FLAGS
    misplaced = [name for name in foreign if getattr(parsed, name) is not None]
    if misplaced:
        raise ValueError(f"--{misplaced[0]}: it belongs to stage {3 - parsed.stage}, this is {parsed.stage}")
    if parsed.stage == 1 and (out / "tah.json").exists():
        raise ValueError(f"--out: {out} exists; name another folder, or train its --stage 2")
    if parsed.stage == 1:
        require_new_folder("--out", out)
    else:
        require_reusable_folder(
            "--out", out, "one of `s2t-eval tah train --stage 1`", ["tah.json"], parents=False
        )
    lr = DECIDER_LR if parsed.stage == 2 else BASE_LR if parsed.train_base else LORA_LR
    loop = loop_settings(parsed, lr=lr, lr_warmup_fraction=0.03, clip=0.2)
    looped = LoopedSettings(**given(parsed, LoopedSettings))
    depths = DepthSettings(**given(parsed, DepthSettings))
    parsed.layers = tuple(parsed.layers) if parsed.layers else None
    decider = DeciderSettings(**{k: v for k, v in given(parsed, DeciderSettings).items() if k != "dropout"})
    decisions = DecisionSettings(**given(parsed, DecisionSettings))
    labels = TahLabels.load(Path(parsed.labels))
    student, tokenizer = load_student(*student_flags(parsed))
    require_no_evaluation_prompts([text.prompt_ids for text in labels.texts], tokenizer.decode)
    if parsed.stage == 1:
        info = train_depths(student, labels, looped, loop, depths, out)
    else:
        info = train_decider(student, labels, decider, loop, decisions, out)
    stage = info.training[f"stage-{parsed.stage}"]
    print(f"{out}: stage {parsed.stage}, {stage['texts']} texts, {stage['steps']} steps")
    print("held out:", ", ".join(f"{name} {value:.4g}" for name, value in stage["held_out"].items()))


def plain(parsed: argparse.Namespace) -> None:
    """Tune plainly, and say what was reached."""
    from s2t_eval.methods.tah.settings import LoopedSettings
    from s2t_eval.training.contamination import require_no_evaluation_prompts
    from s2t_eval.training.student import load_student
    from s2t_eval.training.tah.labels import TahLabels
    from s2t_eval.training.tah.plain import train_plain
    from s2t_eval.training.tah.train import DepthSettings

    out = Path(parsed.out)
    require_new_folder("--out", out)
    loop = loop_settings(parsed, lr=LORA_LR, lr_warmup_fraction=0.03, clip=0.2)
    looped = LoopedSettings(**given(parsed, LoopedSettings))
    settings = DepthSettings(**given(parsed, DepthSettings))
    labels = TahLabels.load(Path(parsed.labels))
    student, tokenizer = load_student(*student_flags(parsed))
    require_no_evaluation_prompts([text.prompt_ids for text in labels.texts], tokenizer.decode)
    trained = train_plain(student, labels, looped, loop, settings, out)
    print(f"{out}: plain tuning, {trained.steps} steps, the best after {trained.best_step}")
    print(f"held out: nll {trained.best['nll']:.4g} (before {trained.history[0]['nll']:.4g})")
