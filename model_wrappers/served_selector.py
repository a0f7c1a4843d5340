"""A local selector on the student's servers: its adapter as a LoRA, or its readout in reserved rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s2t_eval.artifacts.manifest import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.methods.selector_folder import RESERVED, Selector
from s2t_eval.methods.selector_info import SelectorError
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.client import Server
from s2t_eval.remote.settings import ServerError

logger = logging.getLogger(__name__)

SCALING = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
"""Entries of an adapter's configuration that its contribution to the student is multiplied by or made of."""


def with_adapter(fleet: Fleet, selector: Selector, name: str | None) -> Fleet:
    """The fleet, whose students score with the selector's adapter.

    Args:
        fleet: the servers of the student.
        selector: its adapter is compared with the servers', where their files are on this machine.
        name: of the LoRA on the servers; None takes the only one that all of them have.

    Raises:
        ServerError: no adapter of this name on every server, several without a name, or another adapter.
    """
    common = set.intersection(*(set(server.adapters) for server in fleet.students))
    if name is None and len(common) == 1:
        [name] = common
    if name is None or name not in common:
        expected = f"the adapter {name}" if name else "one adapter, or adapter=NAME to choose one"
        raise ServerError(
            f"student_url: expected {expected} on every server of the student, got "
            f"{', '.join(sorted(common)) or 'none'}; start them with --enable-lora --max-lora-rank 64 "
            f"--lora-modules NAME={selector.folder}"
        )
    for server in fleet.students:
        _require_same_adapter(server, name, selector)
    return replace(fleet, adapter=name)


def _require_same_adapter(server: Server, name: str, selector: Selector) -> None:
    """Compare what a server has loaded with the selector's adapter, if its files are on this machine.

    vLLM reports the folder of an adapter and nothing of its content.
    """
    served = Path(server.adapters[name])
    if not server.adapters[name] or not (served / ADAPTER_WEIGHTS).is_file():
        logger.warning(
            "student_url: the files of the adapter %s are not on this machine to be compared with %s",
            name,
            selector.folder,
        )
        return
    fix = f"than selector={selector.folder}; serve that folder, or name another by adapter="
    if (served / ADAPTER_WEIGHTS).read_bytes() != (selector.folder / ADAPTER_WEIGHTS).read_bytes():
        raise ServerError(
            f"student server {server.url}: its adapter {name} is {served}, with other weights {fix}"
        )
    actual, expected = (read_object(folder / ADAPTER_CONFIG) for folder in (served, selector.folder))
    different = [key for key in SCALING if actual.get(key) != expected.get(key)]
    if different:
        values = ", ".join(f"{key} {actual.get(key)} instead of {expected.get(key)}" for key in different)
        raise ServerError(
            f"student server {server.url}: its adapter {name} is {served}, with another factor "
            f"({values}) {fix}"
        )


def with_adapted_students(fleet: Fleet) -> Fleet:
    """The fleet, whose students also write with the adapter (proposer `tuned`)."""
    assert fleet.adapter is not None
    students = tuple(replace(server, model=fleet.adapter) for server in fleet.students)
    return replace(fleet, students=students)


def with_reserved_rows(fleet: Fleet, selector: Selector, exported: str | None) -> Fleet:
    """The fleet, whose students serve a checkpoint of `s2t-eval export --to_reserved_rows`.

    Args:
        fleet: the servers of the student.
        selector: the one that was exported.
        exported: folder of the checkpoint; None takes the one that the server names as its model.

    Raises:
        SelectorError: no description of reserved rows, or that of another selector.
    """
    path = Path(exported or fleet.students[0].root) / RESERVED
    try:
        description = read_object(path)
    except (OSError, ValueError) as error:
        raise SelectorError(
            f"exported={exported}: a selector of form {selector.info.form} on servers needs the folder of "
            f"`s2t-eval export --to_reserved_rows` that they serve, with {RESERVED} ({error})"
        ) from error
    if description.get("selector") != selector.hash:
        raise SelectorError(
            f"exported: {path.parent} was made from another selector ({description.get('selector')}) than "
            f"selector={selector.folder} ({selector.hash}); export this one, or name that one"
        )
    return replace(fleet, reserved_rows=_reserved_ids(description.get("reserved_ids"), path))


def _reserved_ids(ids: object, path: Path) -> tuple[int, ...]:
    if not isinstance(ids, Sequence) or not ids or not all(isinstance(i, int) for i in ids):
        raise SelectorError(f"{path}: expected a list of token ids under reserved_ids, got {json.dumps(ids)}")
    return tuple(ids)
