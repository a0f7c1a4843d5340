"""The command line is what the settings dataclasses say: names, groups, defaults, help, errors."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from inspect import signature
from typing import Any

import pytest

from s2t_eval import cli
from s2t_eval.cli.application import GROUPS, CommandLine, as_help, shown_default
from s2t_eval.cli.options import options_of
from s2t_eval.reproduce.read import shipped
from s2t_eval.training.distil.methods import METHODS
from s2t_eval.training.distil.settings import WITH_BETA
from s2t_eval.training.settings import ADAPTER_LR, LoopSettings
from s2t_eval.training.tah.settings import TahLoopSettings
from tests.commands import refused

LINE = CommandLine(cli.COMMANDS)
NAMES = [entry.name for entry in cli.COMMANDS]
UNKNOWN = "expected an option of this command, got an unknown one"
PAIR = ("--pretrained", "s", "--labels", "l", "--out", "o")


def parsed(*arguments: object) -> Any:
    """The command that these arguments make."""
    return LINE.parse(list(map(str, arguments)))


def test_commands_are_listed_in_their_groups(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    out = capsys.readouterr().out
    starts = [out.index(f"─ {group} ─") for group in GROUPS]
    assert starts == sorted(starts)
    bounds = [*starts, len(out)]
    for number, group in enumerate(GROUPS):
        panel = out[bounds[number] : bounds[number + 1]]
        names = {entry.name.split()[0] for entry in cli.COMMANDS if entry.group == group}
        assert all(f"│ {name} " in panel for name in names), group


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_described_once(name: str) -> None:
    """Many options said only "of the training loop"."""
    options = options_of(LINE, name)
    names = [option.name for option in options]
    assert len(set(names)) == len(names)
    for option in options:
        assert len(option.about) > 9 and "of the training loop" not in option.about, option
        assert "\n" not in option.about and "None:" not in option.about


def test_the_help_of_a_field_is_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of a docstring were broken in the middle of the help's lines."""
    cli.main(["tah", "train", "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "By default five, evenly spaced from the first to the last but one, which are the" in out
    assert "[default: 0.03]" in out  # Think-at-Hard's own warm-up


@pytest.mark.parametrize(
    "arguments", [("--help",), ("distil", "--help"), ("tah", "train", "--help"), ("r2r", "train", "--help")]
)
def test_help_loads_no_torch(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from s2t_eval.cli import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'transformers', 'lm_eval', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--version"])
    assert capsys.readouterr().out == f"s2t-eval {version('s2t-eval')}\n"


def test_hyphens_and_underscores_name_the_same_option() -> None:
    for name in ("--lr_warmup_fraction", "--lr-warmup-fraction"):
        assert parsed("train", *PAIR, name, "0.5").loop.lr_warmup_fraction == 0.5


def test_several_values_follow_one_option_and_the_last_single_value_counts() -> None:
    arguments = ("--pretrained", "s", "--task", "t", "--out", "o", "--tau", 0.01, 0.05, "--limit", 3)
    command = parsed("calibrate", *arguments, "--limit", 5)
    assert (command.tau, command.source.limit) == ((0.01, 0.05), 5)
    scan = parsed(
        "scan", "--model_args", "a=b", "--tau", 0.1, "--tasks", "t", "--out", "o", "--", "--limit", 8
    )
    assert scan.lm_eval == ("--limit", "8")


def test_options_that_a_subclass_inherits_are_read() -> None:
    """An option of the loop of `tah train` ended in a NameError: its type is named in another module."""
    command = parsed("tah", "train", *PAIR, "--stage", 1, "--schedule", "linear", "--dropout", 0.3)
    assert command.loop == TahLoopSettings(schedule="linear")
    assert command.loop.clip == 0.2
    assert (command.looped.dropout, command.decider.dropout) == (0.3, 0.1)


def test_the_trainer_chooses_a_learning_rate_where_none_is_named() -> None:
    assert LoopSettings().peak_lr == ADAPTER_LR
    assert LoopSettings().with_default_lr(1e-5).lr == 1e-5
    assert LoopSettings(lr=3e-4).with_default_lr(1e-5).lr == 3e-4


def test_a_beta_is_read_by_the_distillation_methods_whose_loss_has_one() -> None:
    has_beta = {name for name, method in METHODS.items() if "beta" in signature(method.losses).parameters}
    assert has_beta == set(WITH_BETA)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("train", "--rnak", "8"), f"train: --rnak: {UNKNOWN}; the nearest is --rank"),
        (("train", *PAIR, "--rnak=8"), f"train: --rnak: {UNKNOWN}; the nearest is --rank"),
        (("train", *PAIR, "--zzz"), f"train: --zzz: {UNKNOWN}"),
        (("train", "--labels"), "train: --labels: expected a path, got none"),
        (("train",), "train: --pretrained: expected a text, got none; it is required"),
        (("compare", "a"), "compare: NEW: expected a path, got none; it is required"),
        (("train", *PAIR, "--lr", "fast"), "train: --lr: expected a number, got 'fast'"),
        (("train", *PAIR, "--epochs", "1.5"), "train: --epochs: expected a whole number, got '1.5'"),
        (("train", *PAIR, "--limit", "2.5"), "train: --limit: expected a whole number, got '2.5'"),
        (("calibrate", "--limit", "0.6"), "calibrate: --limit: expected a whole number, got '0.6'"),
        (("analyze", "--out", "o", "--k", "8", "1.5"), "analyze: --k: expected a whole number, got '1.5'"),
        (("try", "-3 + 5 = ?"),
         "try: '-3 + 5 = ?': expected an option of this command; a text that begins with - stands behind --, "
         "as in -- '-3 + 5 = ?'"),
        (("collect", "--pretrained", "s", "--out", "o", "--system_instruction", "- Solve it"),
         "collect: --system_instruction: expected a text, got none; a value that begins with - is written "
         "--system_instruction='- Solve it'"),
        (("train", *PAIR, "--lr", "-1"), "train: --lr: expected a rate above 0, got -1.0"),
        (("train", *PAIR, "stray"), "train: expected no further argument, got 'stray'"),
        (("tah", "train", *PAIR, "--stage", "3"),
         "tah train: --stage: expected one of 1, 2, got '3'"),
        (("tah", "lable"),
         "tah: command: expected one of label, train, plain, got 'lable'; the nearest is label"),
    ],
)  # fmt: skip
def test_errors_name_option_expected_and_actual(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message, _, advice = refused(capsys, *arguments).partition(" (see ")
    assert message == f"s2t-eval {line}"
    name = " ".join(word for word in arguments[:2] if word in NAMES or word == "tah")
    assert advice in ("", f"s2t-eval {name} --help)")


def test_an_unknown_command_is_compared_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "colect")
    assert line.startswith("s2t-eval: command: expected one of run, try, calibrate, ")
    assert line.endswith(", got 'colect'; the nearest is collect (see s2t-eval --help)")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (False, None),
        ((), None),
        ("", None),
        (0, "0"),
        (0.1, "0.1"),
        ((8, 16), "8 16"),
        (True, "True"),
    ],
)
def test_defaults_are_shown_as_they_are_typed(value: object, shown: str | None) -> None:
    assert shown_default(value) == shown


def test_descriptions_are_one_line_in_the_users_words() -> None:
    assert (
        as_help("a device.\n    None: a GPU,\n    else the CPU.")
        == "a device. By default a GPU, else the CPU."
    )


def test_the_help_names_every_shipped_recipe() -> None:
    """Two of six were missing."""
    [about] = [option.about for option in options_of(LINE, "reproduce") if option.name == "RECIPE"]
    assert set(shipped()) <= set(about.replace(",", " ").replace(".", " ").split())
