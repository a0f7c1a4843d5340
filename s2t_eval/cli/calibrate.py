"""`s2t-eval calibrate`: thresholds that fire at a wanted rate, measured on training problems."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.places import require_file_place
from s2t_eval.cli.flags import Commands, require_flags
from s2t_eval.cli.source import add_source_flags, load_options, read_source, require_source
from s2t_eval.ranges import AT_LEAST_0, Range

RATES = Range("rates between 0 and 1", 0, 1, without=(0, 1))


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate", help="measure thresholds that fire at a wanted rate, on training problems"
    )
    add_source_flags(parser, limit=32)
    add = parser.add_argument
    add("--teacher", help="teacher; without one only local triggers are calibrated")
    add("--tau", type=float, nargs="+", default=[0.01, 0.05, 0.1], help="wanted rates")
    add("--warmup", type=int, default=0, help="tokens at the start of a text that never fire")
    add("--router", help="folder of an R2R router, whose thresholds are measured too")
    add("--out", required=True, help="calibration file to write")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write a calibration file, and say what it holds."""
    from s2t_eval.pipelines import calibrate as calibration_run
    from s2t_eval.pipelines.overlap import without_evaluation_problems

    require_source(parsed)
    require_flags(parsed, tau=RATES, warmup=AT_LEAST_0)
    out = Path(parsed.out)
    require_file_place("--out", out)
    _require_no_other_file(out)
    source, prompting = read_source(parsed)
    lm = calibration_run.load_lm(parsed.pretrained, parsed.teacher, **load_options(parsed))
    problems = without_evaluation_problems(source.prompts(lm, prompting), parsed.drop_overlap)
    calibration = calibration_run.calibrate(lm, problems, prompting, parsed.tau, parsed.warmup, parsed.router)
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
