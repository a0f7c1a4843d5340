"""Write docs/reference/ from the code: dataclasses and committed results.

    python -m scripts.generate_reference            # rewrites docs/reference
    python -m scripts.generate_reference --check    # exits with 1 where it is stale

Nothing under docs/reference is edited by hand. Descriptions are those of the code: `Args:` of a
dataclass's docstring, from which the options of the command line are made too. Keys of results and
traces are read from the committed baseline of the embedded pair; `reference_text.py` describes them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from s2t_eval import cli
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.cli.application import GROUPS, CommandLine, help_text
from s2t_eval.cli.options import Option, options_of
from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.splitting import TEACHER_ARGS
from scripts import reference_text as prose
from scripts.reference_code import descriptions, find_class

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY / "docs/reference"
BASELINE = REPOSITORY / "results/baselines/embedded"
RARE_ENTRIES = ("system_turn", "plain_likelihoods", "adapted_likelihoods", "code", "steps_at_once")
"""Entries of results that none of the baselines has, some of which are of earlier versions."""
NOTE = "<!-- Written by `python -m scripts.generate_reference`; edit the code, not this page. -->"

ARGUMENT_CLASSES = {
    "CommonArguments": "All backends",
    "SamplingArguments": "`maj8`, `maj_at_k`",
    "SelectionArguments": "`s2t`, `takeover`, `r2r`, `s2t_local`, `pps_local`",
    "ServerArguments": "`greedy`, `distil` and all other methods on servers",
    "PairArguments": "`s2t`, `takeover`, `r2r`, `specreason` on servers",
    "TeacherArguments": "`s2t`, `takeover`, `r2r`",
    "LocalArguments": "`s2t_local`, `pps_local`",
    "R2RArguments": "`r2r`",
    "DistilArguments": "`distil`",
    "TahArguments": "`tah`",
    "SpecReasonArguments": "`specreason`",
    "TreeArguments": "`tot`",
}
SETTINGS = {
    "LoopSettings": "The training loop (all training commands)",
    "SelectorSettings": "`s2t-eval train`: the selector",
    "TrainSettings": "`s2t-eval train`: the data and what is kept",
    "DistilSettings": "`s2t-eval distil`",
    "RlkdSettings": "`s2t-eval rlkd`",
    "LoopedSettings": "`s2t-eval tah train --stage 1`: the looped student",
    "DepthSettings": "`s2t-eval tah train --stage 1`: the texts",
    "DeciderSettings": "`s2t-eval tah train --stage 2`: the decider",
    "LabelSettings": "`s2t-eval r2r label`",
    "RouterSize": "`s2t-eval r2r train`: the router",
    "RouterTrainSettings": "`s2t-eval r2r train`: the data",
    "ThresholdSettings": "`s2t-eval r2r train`: the threshold",
}
ARTIFACTS = {
    "Calibration": ("Calibration file", "a JSON file of `s2t-eval calibrate`"),
    "LabelSet": (
        "Label folder",
        "`manifest.json` and Parquet shards of `s2t-eval collect`; the manifest is written last, so a folder "
        "without one is unfinished",
    ),
    "Trajectory": (
        "A row of a label folder",
        "one text: the student's greedy one, or in a second round one that a selector wrote",
    ),
    "SelectorInfo": (
        "Selector folder",
        "a peft adapter with `selector.json`, `readout.safetensors`, `router.safetensors` and a model card, "
        "made by `s2t-eval train`",
    ),
    "DistilInfo": (
        "Distilled folder",
        "a peft adapter or a checkpoint with `distil.json` and a model card, made by `s2t-eval distil` or "
        "`s2t-eval rlkd`",
    ),
    "TahInfo": (
        "Think-at-Hard folder",
        "a peft adapter with `tah.json`, `decider.safetensors` and a model card, made by `s2t-eval tah "
        "train`",
    ),
    "R2RLabels": (
        "R2R's label folder",
        "`manifest.json` and shards of safetensors of `s2t-eval r2r label`; the manifest is written last",
    ),
    "RouterInfo": (
        "R2R's router folder",
        "`r2r.json`, `router.safetensors` and a model card, made by `s2t-eval r2r train`",
    ),
}
MANIFESTS = {"LabelSet": "LabelManifest", "R2RLabels": "R2RManifest"}
"""Classes whose content another class of the same module describes."""


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 where a page is stale"
    )
    check = parser.parse_args().check
    stale = [name for name, text in pages().items() if not is_written(name, text, check)]
    unknown = {path.name for path in REFERENCE.glob("*.md")} - set(pages())
    if check and (stale or unknown):
        names = ", ".join(sorted({*stale, *unknown}))
        sys.exit(f"docs/reference is stale ({names}): run `python -m scripts.generate_reference` and commit")


def is_written(name: str, text: str, check: bool) -> bool:
    """Whether the page holds this text; without `check` it is written first."""
    path = REFERENCE / name
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.is_file() and path.read_text(encoding="utf-8") == text


def pages() -> dict[str, str]:
    """File name -> content of every page."""
    made = {
        "model-arguments.md": model_arguments(),
        "commands.md": commands(),
        "training-settings.md": training_settings(),
        "results.md": results(),
        "trace.md": trace(),
        "artifacts.md": artifacts(),
    }
    return {name: "\n".join([NOTE, "", *lines, ""]) for name, lines in made.items()}


# ---------------------------------------------------------------- pages


def model_arguments() -> list[str]:
    """The `--model_args` of the backends."""
    lines = [
        *prose.MODEL_ARGUMENTS.splitlines(),
        "",
        "| `--model` | sections with its arguments, besides All backends |",
        "|---|---|",
        *(f"| `{name}` | {', '.join(map(link, sections_of(name)))} |" for name in sorted(BACKENDS)),
    ]
    described: dict[str, str] = {}
    for name, title in ARGUMENT_CLASSES.items():
        settings = find_class(name)
        inherited = {
            field.name: field.default
            for base in settings.__mro__[1:]
            if base in documented()
            for field in fields(base)
        }
        described |= descriptions(settings)
        own = [f for f in fields(settings) if f.name not in inherited or f.default != inherited[f.name]]
        lines += ["", f"## {title}", ""]
        parent = ARGUMENT_CLASSES.get(settings.__base__.__name__)
        if parent and settings.__base__ is not find_class("CommonArguments"):
            redefined = ", ".join(f"`{f.name}`" for f in own if f.name in inherited)
            more = f"with other defaults of {redefined}" if redefined else "with these in addition"
            if redefined and any(f.name not in inherited for f in own):
                more += " and these in addition"
            lines += [f"The arguments of {link(parent)}, {more}:", ""]
        lines += field_table(own, described)
    names = ", ".join(f"`{name}`" for name in sorted(TEACHER_ARGS))
    return [*lines, "", *prose.TEACHER_ARGUMENTS.splitlines(), "", f"{names}."]


def sections_of(backend: str) -> list[str]:
    """The titles of the sections whose arguments a `--model` takes, without that of all backends."""
    module, name = BACKENDS[backend].split(":")
    taken = getattr(importlib.import_module(module), name).ARGUMENTS.__mro__
    own = {name: title for name, title in ARGUMENT_CLASSES.items() if name != "CommonArguments"}
    return [title for argument, title in own.items() if find_class(argument) in taken]


def link(title: str) -> str:
    """A link to a section of the same page, with the anchor that mkdocs and GitHub make of its title."""
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{title}](#{anchor})"


def documented() -> set[type]:
    """The classes with a section of their own."""
    return {find_class(name) for name in ARGUMENT_CLASSES}


def commands() -> list[str]:
    """The commands of `s2t-eval`, from their dataclasses."""
    line = CommandLine(cli.COMMANDS)
    lines = [*prose.COMMANDS.splitlines()]
    for group in GROUPS:
        lines += ["", f"## Commands to {group}"]
        for entry in (entry for entry in cli.COMMANDS if entry.group == group):
            options = options_of(line, entry.name)
            lines += ["", f"### s2t-eval {entry.name}", "", *help_text(entry.command).splitlines(), ""]
            lines += ["| option | default | meaning |", "|---|---|---|", *map(option_row, options)]
            lines += ["", "```bash", *entry.command.EXAMPLE.splitlines(), "```"]
    return lines


def option_row(option: Option) -> str:
    """A row for an option of a command."""
    default = "required" if option.is_required else f"`{option.default}`" if option.default else "–"
    choices = ", ".join(f"`{choice}`" for choice in option.choices)
    about = f"{option.about.rstrip('.')}; one of {choices}" if choices else option.about
    return f"| `{option.name}{' …' if option.takes_several else ''}` | {default} | {cell(about)} |"


def training_settings() -> list[str]:
    """Defaults and meanings of what can be set for training."""
    lines = [
        *prose.TRAINING.splitlines(),
    ]
    for name, title in SETTINGS.items():
        settings = find_class(name)
        lines += ["", f"## {title}", "", *field_table(fields(settings), descriptions(settings))]
    return lines


def results() -> list[str]:
    """Our entry in lm_eval's results file, and the costs."""
    entries: dict[str, Any] = dict.fromkeys(RARE_ENTRIES)
    costs: dict[str, Any] = dict.fromkeys(("seconds", "tokens_per_second", "peak_memory_bytes"))
    for path in sorted(BASELINE.glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8")).get("config", {}).get("s2t_eval")
        if entry:
            entries = {**entries, **entry}
            costs = {**entry["telemetry"], **costs}
    lines = [
        *prose.RESULTS_PAGE.splitlines(),
        "",
        *described_table(entries, prose.RESULTS, "RESULTS"),
        "",
        "## Costs",
        "",
        "`config.s2t_eval.telemetry`, summed over all texts of the run:",
        "",
        *described_table(costs, prose.COUNTS, "COUNTS"),
    ]
    return lines


def trace() -> list[str]:
    """A line of a trace file."""
    lines = [
        *prose.TRACE_PAGE.splitlines(),
        "",
    ]
    files = sorted((BASELINE / "traces").glob("*.jsonl"))
    records = [line.record for path in files for line in read_json_lines(path)]
    keys: dict[str, Any] = {key: value for record in records for key, value in record.items()}
    keys |= dict.fromkeys(("seconds", "answer", "vote", "plain_vote", "confidence"))
    lines += described_table(keys, prose.TRACE, "TRACE")
    lines += ["", "## A fired step", "", "| key | meaning |", "|---|---|"]
    steps: dict[str, Any] = {key: None for record in records for step in record["steps"] for key in step}
    return [*lines[:-2], *described_table(steps, prose.STEP, "STEP")]


def artifacts() -> list[str]:
    """Files and folders that commands write and backends read."""
    lines = [
        *prose.ARTIFACTS_PAGE.splitlines(),
    ]
    for name, (title, about) in ARTIFACTS.items():
        settings = find_class(name)
        if name in MANIFESTS:
            settings = getattr(sys.modules[settings.__module__], MANIFESTS[name])
        not_saved = getattr(sys.modules[settings.__module__], "NOT_COLUMNS", ())
        shown = [f for f in fields(settings) if f.name in descriptions(settings) and f.name not in not_saved]
        lines += ["", f"## {title}", "", sentence(about), ""]
        lines += ["| field | meaning |", "|---|---|"]
        lines += [f"| `{f.name}` | {cell(descriptions(settings)[f.name])} |" for f in shown]
    return lines


# ---------------------------------------------------------------- tables


def field_table(shown: Iterable[Field[Any]], about: Mapping[str, str]) -> list[str]:
    """A row for each field of a dataclass."""
    lines = ["| name | default | meaning |", "|---|---|---|"]
    for field in shown:
        meaning = about.get(field.name) or prose.FIELDS.get(field.name, "")
        lines.append(f"| `{field.name}` | {default_of(field)} | {cell(meaning)} |")
    return lines


def default_of(field: Field[Any]) -> str:
    """A field's default as a user writes it."""
    if field.default is not MISSING:
        value = field.default
    elif field.default_factory is not MISSING:
        value = field.default_factory()
    else:
        return "required"
    if value is None or value == ():
        return "–"
    return f"`{value}`"


def described_table(keys: Iterable[str], about: Mapping[str, str], where: str) -> list[str]:
    """A row for each key, in the order of its descriptions."""
    missing = [key for key in keys if key not in about]
    if missing:
        sys.exit(f"scripts/reference_text.py: {where} does not describe {', '.join(missing)}; add it there")
    return [
        "| key | meaning |",
        "|---|---|",
        *(f"| `{k}` | {cell(v)} |" for k, v in about.items() if k in set(keys)),
    ]


def cell(text: str) -> str:
    """Text that fits a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ").strip().rstrip(".")


def sentence(text: str) -> str:
    """Text with a capital letter at its start and a full stop at its end."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "." if text else text


if __name__ == "__main__":
    main()
