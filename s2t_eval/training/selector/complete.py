"""A selector folder from before every training served both proposers, with what it lacks under one."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.selector_folder import (
    PROPOSERS,
    Selector,
    SelectorError,
    SelectorInfo,
    save_selector,
)
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.model import SelectorSettings
from s2t_eval.training.selector.proposers import Routing, make_routing
from s2t_eval.training.selector.run import TrainSettings, make_model, require_same_labels, with_defaults
from s2t_eval.training.student import Student


def complete_selector(student: Student, labels: LabelSet, selector: Selector, out: Path) -> SelectorInfo:
    """Write the folder `out`: a selector with what it lacks under a proposer; all else stays as it is.

    Folders from before every training served both proposers lack a router, thresholds and a default for one.

    Args:
        student: the plain student.
        labels: those that the selector was trained on, whose split into two sides is taken again.
        selector: of this student.
        out: folder to write.

    Raises:
        LabelError: labels of another student or tokenizer.
        SelectorError: other labels than the selector's, or nothing to complete.
    """
    labels.require_student(student.fingerprint, student.vocabulary)
    info = selector.info
    trained = info.training["settings"]
    require_same_labels(f"complete={selector.folder}", info, labels)
    missing = [proposer for proposer in PROPOSERS if proposer not in selector.routers]
    if not missing:
        raise SelectorError(f"complete={selector.folder}: it has all for proposer {' and '.join(PROPOSERS)}")
    settings = TrainSettings(info.num_candidates, info.top_k, held_out=trained["settings"]["held_out"])
    train, held_out = labels.split(settings.held_out)
    start = SelectorSettings(**trained["selector"])
    model = make_model(student, start, selector)
    work = out.with_name(out.name + ".training")
    identity = {"complete": selector.hash, "labels": data_hash([asdict(labels.manifest)])}
    routings: dict[str, Routing] = {
        proposer: make_routing(
            student, model.peft, proposer, train, held_out, work / f"router-{proposer}", identity
        )
        for proposer in missing
    }
    thresholds = {**info.thresholds, **{key: routing.thresholds for key, routing in routings.items()}}
    reports = {key: routing.report() for key, routing in routings.items()}
    figures = {**info.training, "triggers": {**info.training["triggers"], **reports}}
    info = replace(info, thresholds=thresholds, training=figures)
    info = with_defaults(info, model, labels, held_out, settings, routings, trained["loop"]["precision"])
    routers = {**selector.routers, **{key: routing.router for key, routing in routings.items()}}
    save_selector(out, info, model.readout, routers, model.peft)
    shutil.rmtree(work)
    return info
