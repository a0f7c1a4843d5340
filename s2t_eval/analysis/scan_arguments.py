"""The arguments of a scan, kept beside its points, so that a scan with others does not take them over."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from s2t_eval.artifacts.content import content_hash
from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.typed_json import conform, read_object
from s2t_eval.method_table import ADDRESSES, BACKENDS, PLACE_ARGUMENTS
from s2t_eval.model_wrappers.arguments import CommonArguments, ServerArguments
from s2t_eval.model_wrappers.splitting import RENAMED, TEACHER, TEACHER_ARGS
from s2t_eval.remote.settings import RemoteSettings

FILE = "scan.json"
HASHED = (*PLACE_ARGUMENTS, *(TEACHER + name for name in PLACE_ARGUMENTS))
"""Model arguments that may name files or folders: other content under the same name is another scan."""
OF_MACHINE = ("device", "batch_size", "max_batch_size", *(field.name for field in fields(RemoteSettings)))
"""Model arguments that do not change what a point measures."""
OF_MACHINE_FLAGS = frozenset(
    "--device --batch_size -b --max_batch_size --verbosity -v --use_cache -c --cache_requests".split()
)
SHORT = {"-L": "--limit", "-f": "--num_fewshot", "-E": "--samples"}
"""Short flags of lm_eval that change what is measured."""


@dataclass(frozen=True)
class ScanArguments:
    """What all points of a scan share.

    Args:
        tasks: of lm_eval, separated by commas.
        model_args: model arguments, without those of the machine and without addresses of servers.
        content: hash of each file or folder among them.
        lm_eval: flags of lm_eval with their values, without those of the machine.
    """

    tasks: str
    model_args: dict[str, str]
    content: dict[str, str]
    lm_eval: dict[str, str]


def scan_arguments(tasks: str, model_args: Mapping[str, str], lm_eval: Sequence[str]) -> ScanArguments:
    """The arguments of a command.

    Args:
        tasks: its `--tasks`.
        model_args: its `--model_args`, by name.
        lm_eval: the words after `--`.
    """
    kept = _measured(model_args)
    hashes = {name: content_hash(Path(kept[name]).expanduser()) for name in HASHED if name in kept}
    return ScanArguments(
        tasks=",".join(task.strip() for task in tasks.split(",")),
        model_args=kept,
        content={name: value for name, value in hashes.items() if value is not None},
        lm_eval={name: value for name, value in _flags(lm_eval).items() if name not in OF_MACHINE_FLAGS},
    )


def _measured(model_args: Mapping[str, str]) -> dict[str, str]:
    """The model arguments that change what a point measures, sorted by name."""
    return {
        name: "given" if name in ADDRESSES else value
        for name, value in sorted(model_args.items())
        if name not in OF_MACHINE
    }


def control_arguments(models: Sequence[str], model_args: Mapping[str, str]) -> dict[str, str]:
    """The model arguments of greedy decoding as the control: all but those of the methods that fire.

    Args:
        models: `--model` names of these methods.
        model_args: of all points, by name.
    """
    own = set().union(*map(_argument_names, models)) - _argument_names("greedy")
    kept = {
        name: value
        for name, value in model_args.items()
        if RENAMED.get(name, name) not in own and name not in TEACHER_ARGS
    }
    if "student_url" in kept:
        return kept
    of_servers = _names(ServerArguments) - _names(
        CommonArguments
    )  # of the teacher's, where it alone has some
    return {name: value for name, value in kept.items() if name not in of_servers}


def _argument_names(model: str) -> set[str]:
    """Names of a backend's own arguments, beside those of stock `hf`."""
    module, name = BACKENDS[model].split(":")
    return _names(getattr(importlib.import_module(module), name).ARGUMENTS)


def _names(arguments: type[CommonArguments]) -> set[str]:
    return {field.name for field in fields(arguments)}


def _flags(words: Sequence[str]) -> dict[str, str]:
    """Flag -> its values, joined by spaces; words before the first flag are under an empty name."""
    flags: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("-") and not _is_number(word):
            name, _, value = word.partition("=")
            name = SHORT.get(name, name)
            flags[name] = [value] if value else []
        else:
            flags.setdefault(name, []).append(word)
    return {name: " ".join(values) or "given" for name, values in sorted(flags.items())}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def require_same_scan(folder: Path, arguments: ScanArguments) -> None:
    """Keep the arguments in a folder without points; raise `ValueError` where its points have other ones.

    Args:
        folder: of the scan; it may not exist yet.
        arguments: of the command.
    """
    path = folder / FILE
    if next(folder.glob("*/**/results_*.json"), None) is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(arguments), indent=1) + "\n")
        return
    if not path.is_file():
        raise ValueError(
            f"--out: {folder} holds the points of a scan without {FILE}, which earlier versions did not "
            "write: their arguments are unknown; name another folder"
        )
    try:
        kept = conform(read_object(path), ScanArguments, "")
    except (OSError, ValueError) as error:
        raise ValueError(f"--out: {path}: no arguments of a scan ({error}); name another folder") from error
    kept = replace(kept, model_args=_measured(kept.model_args))  # earlier versions wrote more of them
    differing = _differences(asdict(kept), asdict(arguments))
    if differing:
        raise ValueError(
            f"--out: {folder} holds points of other arguments: {'; '.join(differing)}; name another folder, "
            "or give the arguments of its points"
        )


def _differences(kept: Mapping[str, object], given: Mapping[str, object]) -> list[str]:
    differing = []
    for name, old in kept.items():
        new = given[name]
        if isinstance(old, dict) and isinstance(new, dict):
            parts = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
            words = {"model_args": "{}", "content": "the content of {}", "lm_eval": "{}"}[name]
            differing += [
                f"{words.format(k)} {old.get(k, 'none')} against {new.get(k, 'none')}" for k in parts
            ]
        elif old != new:
            differing.append(f"--{name} {old} against {new}")
    return differing
