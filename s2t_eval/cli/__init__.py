"""`s2t-eval COMMAND` (also `python -m s2t_eval ...`): one command a file, made from its settings dataclass.

A new command is a file with a dataclass (see `command.py`) and a line in `COMMANDS`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from s2t_eval import __version__
from s2t_eval.cli import (
    analyze,
    calibrate,
    choose,
    collect,
    compare,
    distil,
    doctor,
    export,
    keep,
    r2r,
    regrade,
    report,
    reproduce,
    rlkd,
    run_harness,
    scan,
    servers,
    submit,
    tah,
    train,
    try_text,
)
from s2t_eval.cli.application import PROGRAM, CommandLine
from s2t_eval.cli.command import CommandEntry
from s2t_eval.cli.execute import execute, print_completion, silent_when_closed

COMMANDS = (
    CommandEntry("evaluate", "run", run_harness.Run),
    CommandEntry("evaluate", "try", try_text.Try),
    CommandEntry("evaluate", "calibrate", calibrate.Calibrate),
    CommandEntry("evaluate", "scan", scan.Scan),
    CommandEntry("evaluate", "choose", choose.Choose),
    CommandEntry("evaluate", "doctor", doctor.Doctor),
    CommandEntry("evaluate", "servers check", servers.ServersCheck),
    CommandEntry("train", "collect", collect.Collect),
    CommandEntry("train", "train", train.Train),
    CommandEntry("train", "distil", distil.Distil),
    CommandEntry("train", "tah label", tah.TahLabel),
    CommandEntry("train", "tah train", tah.TahTrain),
    CommandEntry("train", "tah plain", tah.TahPlain),
    CommandEntry("train", "r2r label", r2r.R2RLabel),
    CommandEntry("train", "r2r train", r2r.R2RTrain),
    CommandEntry("train", "rlkd", rlkd.Rlkd),
    CommandEntry("train", "analyze", analyze.Analyze),
    CommandEntry("report", "reproduce", reproduce.Reproduce),
    CommandEntry("report", "report", report.Report),
    CommandEntry("report", "compare", compare.Compare),
    CommandEntry("report", "keep", keep.Keep),
    CommandEntry("report", "regrade", regrade.Regrade),
    CommandEntry("report", "submit", submit.Submit),
    CommandEntry("report", "export", export.Export),
)
"""Their modules import torch and lm_eval only where a command runs, so that `--help` is quick."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command of `s2t-eval`; see `execute` for its errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"] and arguments[1:] not in (["--help"], ["-h"]):
        with silent_when_closed():
            run_harness.run(arguments[1:])  # lm_eval reads its arguments itself
        return
    line = CommandLine(COMMANDS)
    with silent_when_closed():
        if arguments[:1] == ["--completion"]:
            print_completion(line, arguments[1:])
        elif arguments == ["--version"]:
            print(f"{PROGRAM} {__version__}")
        else:
            execute(line, arguments)
