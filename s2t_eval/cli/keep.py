"""`s2t-eval keep`: results small enough to commit, with texts that can be graded again."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from s2t_eval.artifacts.places import require_own_folder
from s2t_eval.cli.flags import Commands


@dataclass(frozen=True)
class Settings:
    """What `s2t-eval keep` is given.

    Args:
        results: output folders of lm_eval, made with `--log_samples`.
        out: folder to write.
    """

    results: tuple[Path, ...]
    out: Path


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "keep", help="runs small enough to commit: results, a line a document, and compressed texts"
    )
    add = parser.add_argument
    add("results", type=Path, nargs="+", help="output folders of lm_eval, made with --log_samples")
    add("--out", type=Path, required=True, help="folder to write; made if need be")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the runs, and say which files there are."""
    keep(Settings(tuple(parsed.results), parsed.out))


def keep(settings: Settings) -> None:
    """Write the runs, and say which files there are."""
    from s2t_eval.report.baseline import write_baselines
    from s2t_eval.report.kept_texts import SUFFIX
    from s2t_eval.report.runs import read_runs

    require_own_folder("--out", settings.out, "one of `s2t-eval keep`", ["*.json", f"*{SUFFIX}"])
    runs = read_runs(settings.results)
    settings.out.mkdir(parents=True, exist_ok=True)
    for path in write_baselines(runs, settings.out):
        texts = path.with_name(path.stem + SUFFIX)
        size = f", {texts.stat().st_size / 1000:.0f} kB of texts" if texts.exists() else ", no texts"
        print(f"{path}{size}")
