"""Completion of a selector folder that lacks a router, thresholds and a default, or the adapter's scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from s2t_eval.methods.selector_folder import Selector, save_selector
from s2t_eval.methods.selector_info import SelectorError, SelectorInfo, selecting_proposers
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.processes import write_result
from s2t_eval.training.selector.continuation import make_model, require_same_labels, require_same_writer
from s2t_eval.training.selector.held_out import split_as_trained
from s2t_eval.training.selector.reported import with_reported_figures
from s2t_eval.training.selector.routing import Routing, make_routing, trained_routers
from s2t_eval.training.selector.settings import SelectorSettings
from s2t_eval.training.selector.trigger_scan import with_adapter_scale, with_defaults
from s2t_eval.training.student import Student
from s2t_eval.training.work_folder import work_folder


def with_answered_defaults(measured: SelectorInfo, earlier: SelectorInfo) -> SelectorInfo:
    """The defaults that answers to development problems chose before, each with its weight.

    Args:
        measured: with the default of every proposer by its gain on held-out problems.
        earlier: the same selector with its earlier defaults.
    """
    answered = {proposer: default for proposer, default in earlier.defaults.items() if default.runs_of}
    info = replace(measured, defaults={**measured.defaults, **answered})
    if "base" in answered:
        info = replace(info, proposal_weight=earlier.proposal_weight)
    return replace(info, adapter_scale=earlier.adapter_scale) if "tuned" in answered else info


def complete_selector(student: Student, labels: LabelSet, selector: Selector, out: Path) -> SelectorInfo:
    """Write the folder `out`: a selector with the parts that it lacks; everything else is unchanged.

    Folders written before one training served both proposers lack the router, the thresholds and the default
    of one of them. Those of `skip_routers` lack a router and, with the form `direct`, the measured scale of
    the adapter. A default is measured again with the new router, unless answers chose it (`choose`).

    Args:
        student: the plain student.
        labels: the label set that the selector was trained on; it is split as it was then.
        selector: a selector of this student.
        out: folder to write.

    Raises:
        LabelError: the labels belong to another student or tokenizer.
        SelectorError: the labels are not the selector's, or nothing is missing.
    """
    labels.require_student(student.fingerprint, student.vocabulary)
    info = selector.info
    trained = info.training["settings"]
    require_same_labels(f"complete={selector.folder}", info, labels)
    require_same_writer(f"complete={selector.folder}", info, labels)
    needed = selecting_proposers(info.form)
    missing = [proposer for proposer in needed if proposer not in selector.routers]
    has_scale = not _lacks_scale(info, labels)
    if not missing and has_scale:
        raise SelectorError(f"complete={selector.folder}: it has all for proposer {' and '.join(needed)}")
    train, halves = split_as_trained(info.training, labels)
    train = train[: trained["settings"].get("limit")]  # folders of earlier versions had no limit
    model = make_model(student, SelectorSettings.of_folder(trained["selector"]), selector)
    work = work_folder(out)
    identity = {"complete": selector.hash, "labels": labels.hash, **student.identity}
    routings: dict[str, Routing] = {
        proposer: make_routing(
            student, model.peft, proposer, train, halves, work / f"router-{proposer}", identity,
            trained["loop"]["seed"],
        )
        for proposer in missing
    }  # fmt: skip
    thresholds = {**info.thresholds, **{key: routing.thresholds for key, routing in routings.items()}}
    reports = {key: routing.report() for key, routing in routings.items()}
    training = {**info.training, "triggers": {**info.training["triggers"], **reports}}
    info = replace(info, thresholds=thresholds, training=training)
    measured = with_defaults(
        info, model, labels, halves.choosing, info.top_k, routings, trained["loop"]["precision"]
    )
    info = with_answered_defaults(measured, info)
    if not has_scale:
        info = with_adapter_scale(info, model, labels, halves.choosing, trained["loop"]["precision"])
    if halves.reported:  # folders of earlier versions have no such half
        precision = trained["loop"]["precision"]
        info = with_reported_figures(info, model, labels, halves.reported, routings, precision)
    routers = {**selector.routers, **trained_routers(routings)}
    write_result(lambda: save_selector(out, info, model.readout, routers, model.peft), work)
    return info


def _lacks_scale(info: SelectorInfo, labels: LabelSet) -> bool:
    """Whether the scale of the adapter under proposer `tuned` is to be measured yet.

    Earlier versions measured it with the default of that proposer, which the form `direct` has no more.
    """
    is_measured = "adapter_scales" in info.training or "tuned" in info.defaults
    return info.form == "direct" and labels.manifest.steps == "all" and not is_measured
