"""`s2t-eval distil`: a student that learns a teacher's distribution on the texts of a label set."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.flags import (
    Commands,
    add_loading_flags,
    add_loop_flags,
    add_lora_flags,
    given,
    loop_settings,
    require_flags,
    student_flags,
)
from s2t_eval.method_table import DISTIL_METHODS
from s2t_eval.ranges import AT_LEAST_1


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "distil", help="teach the student the teacher's distribution: an adapter, or all weights"
    )
    add_loading_flags(parser)
    add = parser.add_argument
    add("--teacher", required=True, help="the larger model that is learnt from")
    add("--teacher_dtype", "--teacher-dtype", help="default: the student's")
    add("--labels", required=True, help="label folder of `s2t-eval collect`")
    add("--method", choices=DISTIL_METHODS, default="kd")
    add("--out", required=True, help="folder to write; a broken-off run goes on where it stopped")
    add("--full", action="store_true", help="train all weights instead of an adapter")
    add("--beta", type=float, help="of jsd (default 0.5) and tsd_kd (default 0.9)")
    add("--temperature", type=float, default=1.0, help="divides both models' logits in the loss")
    add_lora_flags(add)
    add("--held_out", "--held-out", type=float, default=0.1, help="share of problems never trained on")
    add("--limit", type=int, help="learn from this many problems (default: all that are not held out)")
    add("--until", nargs="+", default=[], help="strings that end the teacher's texts (seqkd)")
    add("--rows", type=int, help="texts that the teacher writes at once (seqkd; default 32)")
    add_loop_flags(parser)
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Distil, and say how near the student came."""
    out = Path(parsed.out)
    require_new_folder("--out", out)
    require_flags(parsed, rows=AT_LEAST_1, limit=AT_LEAST_1)
    if parsed.rows is not None and parsed.method != "seqkd":
        raise ValueError(f"--rows: only seqkd has the teacher write texts; leave it out for {parsed.method}")
    from s2t_eval.artifacts.fingerprint import model_fingerprint
    from s2t_eval.models.loading import load_model
    from s2t_eval.models.lora import LoraSettings
    from s2t_eval.models.vocabulary import require_same_vocabulary, stop_ids
    from s2t_eval.training.contamination import require_no_evaluation_prompts
    from s2t_eval.training.distil.run import DistilSettings, Teacher, distil
    from s2t_eval.training.labels import LabelSet
    from s2t_eval.training.student import load_student, short_name

    settings = DistilSettings(
        **given(parsed, LoraSettings),
        method=parsed.method,
        beta=parsed.beta,
        temperature=parsed.temperature,
        full=parsed.full,
        held_out=parsed.held_out,
        until=tuple(parsed.until),
        rows=parsed.rows or DistilSettings.rows,
        limit=parsed.limit,
    )
    loop = loop_settings(parsed)
    labels = LabelSet.load(Path(parsed.labels))
    student, tokenizer = load_student(*student_flags(parsed))
    labels.require_student(student.fingerprint, student.vocabulary)
    require_no_evaluation_prompts([row.prompt_ids for row in labels], tokenizer.decode)
    dtype = parsed.teacher_dtype or parsed.dtype
    larger, theirs = load_model("teacher", parsed.teacher, dtype, parsed.device, parsed.trust_remote_code)
    require_same_vocabulary(tokenizer, theirs)
    teacher = Teacher(
        larger,
        short_name(parsed.teacher),
        model_fingerprint(larger),
        stop_ids(theirs, larger.generation_config),
        functools.partial(theirs.decode, skip_special_tokens=True),
    )
    info = distil(student, teacher, tokenizer, labels, settings, loop, out)
    before, after = info.training["before"], info.training["after"]
    print(
        f"{out}: {info.kind}, {info.method}, {info.training['problems']} problems, "
        f"{info.training['steps']} steps, the best at step {info.training['best_step']}"
    )
    print(
        f"held out: KL(teacher, student) {before['forward_kl']:.4f} -> {after['forward_kl']:.4f} nats, same "
        f"first token {100 * before['agreement']:.1f} -> {100 * after['agreement']:.1f} % "
        f"(n = {after['steps_measured']:.0f} steps of {info.training['held_out_problems']} problems)"
    )
