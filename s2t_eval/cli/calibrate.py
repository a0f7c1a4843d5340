"""`s2t-eval calibrate`: thresholds that fire at a wanted rate, measured on training problems."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.places import require_file_place
from s2t_eval.cli.flags import Commands, add_model_flags, require_flags, require_model_flags
from s2t_eval.ranges import AT_LEAST_0, Range

RATES = Range("rates between 0 and 1", 0, 1, without=(0, 1))


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate", help="measure thresholds that fire at a wanted rate, on training problems"
    )
    add_model_flags(parser)
    add = parser.add_argument
    add("--teacher", help="teacher; without one only local triggers are calibrated")
    add("--task", help="lm_eval task with a training split")
    add("--data", help="FILE.jsonl, NAME:SPLIT or NAME:CONFIG:SPLIT with a question field")
    add("--limit", type=int, default=32, help="problems (default 32)")
    add("--tau", type=float, nargs="+", default=[0.01, 0.05, 0.1], help="wanted rates")
    add("--warmup", type=int, default=0, help="tokens at the start of a text that never fire")
    add("--out", required=True, help="calibration file to write")
    add("--num_fewshot", "--num-fewshot", type=int, default=0)
    add("--drop_overlap", "--drop-overlap", action="store_true", help="leave evaluation problems out")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write a calibration file, and say what it holds."""
    from s2t_eval.pipelines import calibrate as calibration_run
    from s2t_eval.pipelines import prompts as training
    from s2t_eval.pipelines.overlap import without_evaluation_problems

    if (parsed.task is None) == (parsed.data is None):
        raise ValueError("expected one of --task NAME and --data FILE|NAME:SPLIT")
    require_flags(parsed, tau=RATES, warmup=AT_LEAST_0)
    require_model_flags(parsed)
    out = Path(parsed.out)
    require_file_place("--out", out)
    _require_no_other_file(out)
    prompting = training.Prompting(
        parsed.system_instruction,
        parsed.apply_chat_template,
        parsed.num_fewshot,
        parsed.max_gen_toks,
    )
    lm = calibration_run.load_lm(
        parsed.pretrained,
        parsed.teacher,
        dtype=parsed.dtype,
        device=parsed.device,
        batch_size=parsed.batch_size,
        trust_remote_code=parsed.trust_remote_code,
    )
    if parsed.task is not None:
        problems = training.task_prompts(lm, parsed.task, parsed.limit, prompting)
    else:
        problems = training.data_prompts(lm, parsed.data, parsed.limit, prompting)
    problems = without_evaluation_problems(problems, parsed.drop_overlap)
    calibration = calibration_run.calibrate(lm, problems, prompting, parsed.tau, parsed.warmup)
    calibration.save(out)
    print(f"{out}: {calibration.num_steps} steps of {calibration.num_texts} problems, thresholds")
    for trigger, rates in calibration.thresholds.items():
        print(
            f"  {trigger:20}",
            *(f"tau {tau}: {value:.4g}" for tau, value in rates.items()),
            sep="  ",
        )


def _require_no_other_file(path: Path) -> None:
    """Raise `ValueError` for a file that is no calibration: it would be lost."""
    from s2t_eval.selection.calibration import Calibration, CalibrationError

    if not path.exists():
        return
    try:
        Calibration.load(path)
    except CalibrationError as error:
        raise ValueError(f"--out: {path} is there and is no calibration file; name another file") from error
