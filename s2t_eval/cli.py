"""`s2t-eval run | calibrate` (also `python -m s2t_eval ...`)."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a mistake in what was given ends in one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        run(arguments[1:])
        return
    parsed = _parser().parse_args(arguments)
    try:
        parsed.function(parsed)
    except ValueError as error:
        print(f"s2t-eval {parsed.command}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def run(arguments: Sequence[str]) -> None:
    """lm_eval's own command line with our backends and tasks, without the start-up hook."""
    from s2t_eval.registration import register

    register()
    sys.argv = ["lm_eval", *arguments]
    runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)


def calibrate(parsed: argparse.Namespace) -> None:
    """Write a calibration file, and say what it holds."""
    from s2t_eval.model_wrappers import calibrate as calibration_run

    if (parsed.task is None) == (parsed.data is None):
        raise ValueError("expected one of --task NAME and --data FILE|NAME:SPLIT")
    outside = [tau for tau in parsed.tau if not 0 < tau < 1]
    if outside:
        raise ValueError(f"--tau: expected rates between 0 and 1, got {outside[0]}")
    for flag, value, least in (("--limit", parsed.limit, 1), ("--warmup", parsed.warmup, 0)):
        if value < least:
            raise ValueError(f"{flag}: expected at least {least}, got {value}")
    out = Path(parsed.out)
    if not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    prompting = calibration_run.Prompting(
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
        problems = calibration_run.task_problems(lm, parsed.task, parsed.limit, prompting)
    else:
        problems = calibration_run.data_problems(lm, parsed.data, parsed.limit, prompting)
    calibration = calibration_run.calibrate(lm, problems, prompting, parsed.tau, parsed.warmup)
    calibration.save(out)
    print(f"{out}: {calibration.num_steps} steps of {calibration.num_texts} problems, thresholds")
    for trigger, rates in calibration.thresholds.items():
        print(
            f"  {trigger:20}",
            *(f"tau {tau}: {value:.4g}" for tau, value in rates.items()),
            sep="  ",
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="s2t-eval", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="lm_eval with our backends; takes lm_eval's arguments")
    add = commands.add_parser(
        "calibrate", help="measure thresholds that fire at a wanted rate, on training problems"
    ).add_argument
    add("--pretrained", required=True, help="student: hub name, folder or embedded/student")
    add("--teacher", help="teacher; without one only local triggers are calibrated")
    add("--task", help="lm_eval task with a training split")
    add("--data", help="FILE.jsonl, NAME:SPLIT or NAME:CONFIG:SPLIT with a question field")
    add("--limit", type=int, default=32, help="problems (default 32)")
    add("--tau", type=float, nargs="+", default=[0.01, 0.05, 0.1], help="wanted rates")
    add("--warmup", type=int, default=0, help="tokens at the start of a text that never fire")
    add("--out", required=True, help="calibration file to write")
    add("--system_instruction", "--system-instruction", help="as given to lm_eval")
    add("--apply_chat_template", "--apply-chat-template", action="store_true")
    add("--num_fewshot", "--num-fewshot", type=int, default=0)
    add("--max_gen_toks", "--max-gen-toks", type=int, help="default: the task's")
    add("--batch_size", "--batch-size", type=int, default=32)
    add("--dtype", default="auto")
    add("--device", default="cuda", help="default: a GPU where there is one")
    add("--trust_remote_code", "--trust-remote-code", action="store_true")
    parser.set_defaults(function=calibrate)
    return parser
