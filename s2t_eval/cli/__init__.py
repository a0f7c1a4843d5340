"""`s2t-eval COMMAND` (also `python -m s2t_eval ...`); one file a command.

argparse, because commands take several values after one flag (`--tau 0.01 0.05`, `--trace runs/*.jsonl`).
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from s2t_eval.artifacts.errors import full_message, is_user_error, single_line_message
from s2t_eval.cli import (
    analyze,
    calibrate,
    choose,
    collect,
    compare,
    distil,
    doctor,
    export,
    report,
    scan,
    servers,
    submit,
    tah,
    train,
    try_text,
)
from s2t_eval.cli.flags import Parser

COMMANDS = (
    analyze,
    calibrate,
    choose,
    collect,
    compare,
    distil,
    doctor,
    export,
    report,
    scan,
    servers,
    submit,
    tah,
    train,
    try_text,
)
"""Modules with `add_to(commands)`: it declares the command's flags and sets `function`, what it runs.

They import torch and lm_eval only inside that function, so that `--help` is quick.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a mistake in what was given ends in one line on stderr and exit code 2.

    So does what the system refuses: a file that cannot be read, a folder that cannot be written to.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        run(arguments[1:])
        return
    parsed = _parser().parse_args(arguments)
    try:
        parsed.function(parsed)
    except (ValueError, OSError) as error:
        print(f"s2t-eval {parsed.command}: {full_message(error)}", file=sys.stderr)
        raise SystemExit(2) from error


def run(arguments: Sequence[str]) -> None:
    """lm_eval's own command line with our backends and tasks, without the start-up hook."""
    from s2t_eval.model_wrappers.registration import register

    register()
    sys.argv = ["lm_eval", *arguments]
    try:
        runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)
    except (ValueError, OSError) as error:
        if not is_user_error(error):
            raise
        print(f"s2t-eval: {single_line_message(error)}", file=sys.stderr)
        raise SystemExit(2) from error


def _parser() -> Parser:
    parser = Parser(prog="s2t-eval", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="lm_eval with our backends; takes lm_eval's arguments")
    for command in COMMANDS:
        command.add_to(commands)
    return parser
