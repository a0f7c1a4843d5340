"""Completion in real shells: commands, options and choices."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from s2t_eval import cli
from tests.commands import refused

BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
$(complete -p s2t-eval | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Prints the candidates that the completion function offers for the last of some words."""
ZSH = r"""
zmodload zsh/zpty
zpty -b shell zsh -f -i
out=""
await() {
  for i in {1..1000}; do
    while zpty -r -t shell line; do out+=$line; done
    [[ $out == *$1* ]] && return
    sleep 0.1
  done
  print -r -- "$out"
  exit 3
}
zpty -w shell "autoload -Uz compinit; compinit -u -D; source ${(q)1}"
zpty -w shell 's2t-eval() { print -r -- "words:$*:" }; print re""ady'
await ready
zpty -n -w shell "s2t-eval $2"$'\t\n'
await words:$3
print -r -- "$out"
"""
"""Types a line, presses tab and return in an interactive shell, and prints what the command then receives."""


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The completion script as a file."""
    cli.main(["--completion", shell])
    path = folder / f"completion.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


def offered(path: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    command = ["bash", "--norc", "-c", BASH, "bash", str(path), "s2t-eval", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_options_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script("bash", tmp_path, capsys)
    commands = {entry.name.split()[0] for entry in cli.COMMANDS}
    assert set(offered(path, "")) == commands
    assert offered(path, "cali") == ["calibrate"]
    assert offered(path, "tah", "") == ["label", "train", "plain"]
    assert offered(path, "train", "--lr") == ["--lr", "--lr_warmup_fraction"]
    assert offered(path, "train", "--form", "") == ["lookahead", "residual", "direct"]
    assert offered(path, "tah", "train", "--sta") == ["--stage"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("cali", "calibrate"),
        ("tah train --stag", "tah train --stage"),
        ("try --model take", "try --model takeover"),
    ],
)
def test_zsh_completes(
    typed: str, completed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script("zsh", tmp_path, capsys)
    command = ["zsh", "-f", "-c", ZSH, "zsh", str(path), typed, completed]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("shells", [("fish",), (), ("bash", "zsh")])
def test_other_shells_are_named(shells: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--completion: expected bash or zsh, got " in refused(capsys, "--completion", *shells)
