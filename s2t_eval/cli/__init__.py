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
from s2t_eval.cli.command import Entry
from s2t_eval.cli.execute import execute, print_completion, silent_when_closed

COMMANDS = (
    Entry("evaluate", "run", run_harness.Run),
    Entry("evaluate", "try", try_text.Try),
    Entry("evaluate", "calibrate", calibrate.Calibrate),
    Entry("evaluate", "scan", scan.Scan),
    Entry("evaluate", "choose", choose.Choose),
    Entry("evaluate", "doctor", doctor.Doctor),
    Entry("evaluate", "servers check", servers.ServersCheck),
    Entry("train", "collect", collect.Collect),
    Entry("train", "train", train.Train),
    Entry("train", "distil", distil.Distil),
    Entry("train", "tah label", tah.TahLabel),
    Entry("train", "tah train", tah.TahTrain),
    Entry("train", "tah plain", tah.TahPlain),
    Entry("train", "r2r label", r2r.R2RLabel),
    Entry("train", "r2r train", r2r.R2RTrain),
    Entry("train", "rlkd", rlkd.Rlkd),
    Entry("train", "analyze", analyze.Analyze),
    Entry("report", "reproduce", reproduce.Reproduce),
    Entry("report", "report", report.Report),
    Entry("report", "compare", compare.Compare),
    Entry("report", "keep", keep.Keep),
    Entry("report", "regrade", regrade.Regrade),
    Entry("report", "submit", submit.Submit),
    Entry("report", "export", export.Export),
)
"""Their modules import torch and lm_eval only where a command runs, so that `--help` is quick."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command of `s2t-eval`; see `execute` for its errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"] and arguments[1:] not in (["--help"], ["-h"]):
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
