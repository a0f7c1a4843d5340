"""From a label set to a selector folder: selector, routers, thresholds, and the held-out figures of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from s2t_eval.methods.selector_folder import Selector, save_selector
from s2t_eval.methods.selector_info import SelectorInfo, selecting_proposers
from s2t_eval.selection.router import Router
from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
from s2t_eval.training.loop import Loop, TrainingResult, kept_metric
from s2t_eval.training.processes import write_result
from s2t_eval.training.selector.continuation import (
    make_model,
    require_known_split,
    require_same_form,
    router_of_start,
    seen_texts,
    warn_of_earlier_choice,
)
from s2t_eval.training.selector.evaluation import Evaluation
from s2t_eval.training.selector.held_out import (
    HeldOut,
    boundaries_of,
    divided_at,
    question_fingerprints,
    split_held_out,
)
from s2t_eval.training.selector.items import Item, make_items, with_regret_weights
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.reported import with_reported_figures
from s2t_eval.training.selector.routing import Routing, make_routing, trained_routers
from s2t_eval.training.selector.settings import SelectorSettings, TrainSettings
from s2t_eval.training.selector.trigger_scan import all_step_items, with_adapter_scale, with_defaults
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.work_folder import work_folder


def train_selector(
    student: Student,
    labels: LabelSet,
    selector: SelectorSettings,
    loop: LoopSettings,
    settings: TrainSettings,
    out: Path,
    start: Selector | None = None,
) -> SelectorInfo:
    """Train a selector and its routers, and write the folder `out`.

    Checkpoints are kept in `out.training` until the folder is written.

    Args:
        student: the plain student.
        labels: label set of this student.
        selector: form and size of the selector.
        loop: settings of the training loop.
        settings: data and the metric that is kept.
        out: folder to write.
        start: a trained selector of this student to start from; None starts from an untrained one.

    Raises:
        LabelError: the labels belong to another student or tokenizer, or there are too few.
        SelectorError: `start` has another form or size, or was trained on problems held out here.
        TrainingError: the loss is not finite.
        WriteError: a checkpoint or the folder could not be written.
    """
    loop = loop.with_default_lr()
    labels.require_student(student.fingerprint, student.vocabulary)
    _require_steps_of_low_kl(labels, selector, settings)
    if start is not None:
        require_same_form(start, selector)
        require_known_split(start, labels, settings.held_out)
        warn_of_earlier_choice(start)
    boundaries = None if start is None else start.info.training.get("boundaries")
    if boundaries is None:
        all_train, all_held_out = labels.split(settings.held_out)
        held_out = split_held_out(all_held_out)
        boundaries = boundaries_of(all_train, held_out)
    else:
        all_train, held_out = divided_at(boundaries, labels.trajectories)
    train = all_train[: settings.limit]
    identity = _identity(student, labels, selector, settings, start)
    work = work_folder(out)
    torch.manual_seed(loop.seed)
    model = make_model(student, selector, start)
    result = _fit(model, labels, train, held_out.choosing, loop, settings, work / "selector", identity)
    router_texts = None if settings.skip_routers else train
    base_router = router_of_start(start, labels.manifest, settings.limit, loop.seed)
    routings = _train_routers(student, model, router_texts, held_out, work, identity, base_router, loop.seed)
    training = {
        **_training_record(result, train, held_out, {**identity, "loop": asdict(loop)}),
        "triggers": {proposer: routing.report() for proposer, routing in routings.items()},
        "boundaries": boundaries,
        "question_fingerprints": question_fingerprints(
            seen_texts(all_train, settings.limit, held_out, start),
            None if start is None else start.info.training.get("question_fingerprints"),
        ),
    }
    info = _describe(student, labels, model, settings, held_out, routings, training)
    info = with_defaults(info, model, labels, held_out.choosing, settings.top_k, routings, loop.precision)
    if not settings.skip_routers:
        info = with_adapter_scale(info, model, labels, held_out.choosing, loop.precision)
    info = with_reported_figures(info, model, labels, held_out.reported, routings, loop.precision)
    _save(out, info, model, routings, work)
    return info


def _require_steps_of_low_kl(labels: LabelSet, selector: SelectorSettings, settings: TrainSettings) -> None:
    """Raise `ValueError` where steps outside the top tau are to be trained on and have no candidates."""
    if labels.manifest.steps == "all":
        return
    if settings.low_kl_fraction:
        raise ValueError(
            f"low_kl_fraction: expected 0 for labels that have candidates at the top steps only, got "
            f"{settings.low_kl_fraction}; run `s2t-eval collect --steps all`, or leave it out"
        )
    if selector.anchor == "labels":
        raise ValueError(
            "anchor=labels: expected labels with candidates at every step, got candidates at the top steps "
            "only; run `s2t-eval collect --steps all`, or take anchor=text"
        )


def _identity(
    student: Student,
    labels: LabelSet,
    selector: SelectorSettings,
    settings: TrainSettings,
    start: Selector | None,
) -> dict[str, Any]:
    """The settings that a resumed run must share with the interrupted one."""
    identity: dict[str, Any] = {
        "labels": labels.hash,
        **student.identity,
        "selector": asdict(selector),
        "settings": asdict(settings),
    }
    return identity if start is None else {**identity, "start": start.hash}


def _train_routers(
    student: Student,
    model: SelectorModel,
    train: Sequence[Trajectory] | None,
    held_out: HeldOut,
    work: Path,
    identity: Mapping[str, Any],
    base_router: Router | None,
    seed: int,
) -> dict[str, Routing]:
    """Proposer -> its router and thresholds, of those that the selector's form selects under.

    The router of `base` is `base_router`, if it is given.
    """
    proposers = selecting_proposers(model.settings.form)
    trained = {} if base_router is None else {"base": base_router}
    return {
        proposer: make_routing(
            student, model.peft, proposer, train, held_out, work / f"router-{proposer}", identity,
            seed, trained.get(proposer),
        )
        for proposer in (proposers if train is not None else ("base",))
    }  # fmt: skip


def _training_record(
    result: TrainingResult,
    train: Sequence[Trajectory],
    held_out: HeldOut,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What the manifest keeps of the training loop."""
    return {
        "choosing": {k: v for k, v in result.best.items() if k not in ("step", "train_loss")},
        "choosing_problems": len(held_out.choosing),
        "reported_problems": len(held_out.reported),
        "problems": len(train),
        "steps": result.steps,
        "best_step": result.best_step,
        "averaged": result.averaged,
        "history": result.history,
        "settings": settings,
    }


def _describe(
    student: Student,
    labels: LabelSet,
    model: SelectorModel,
    settings: TrainSettings,
    held_out: HeldOut,
    routings: Mapping[str, Routing],
    training: dict[str, Any],
) -> SelectorInfo:
    """The folder's manifest, without the defaults of its proposers."""
    return SelectorInfo(
        base=student.fingerprint,
        base_name=student.name,
        vocabulary=student.vocabulary,
        hidden_size=student.hidden_size,
        form=model.settings.form,
        score_as=model.settings.score_as,
        bins=len(model.readout),  # the readout of a selector that was continued may have others
        temperature=model.settings.effective_temperature,
        num_candidates=settings.num_candidates,
        top_k=settings.top_k,
        thresholds={proposer: routing.thresholds for proposer, routing in routings.items()},
        threshold_steps=sum(len(row.output_ids) for half in held_out for row in half),
        defaults={},
        labels=asdict(labels.manifest),
        training=training,
        teacher=labels.manifest.teacher,
    )


def _save(
    out: Path, info: SelectorInfo, model: SelectorModel, routings: Mapping[str, Routing], work: Path
) -> None:
    """Write the folder on the main process and remove the checkpoints."""
    write_result(lambda: save_selector(out, info, model.readout, trained_routers(routings), model.peft), work)


def _fit(
    model: SelectorModel,
    labels: LabelSet,
    train: Sequence[Trajectory],
    choosing: Sequence[Trajectory],
    loop: LoopSettings,
    settings: TrainSettings,
    folder: Path,
    identity: Mapping[str, Any],
) -> TrainingResult:
    """Run the training loop over the steps that are trained on; its best checkpoint is of `choosing`."""
    kl_threshold = labels.manifest.kl_threshold
    items = make_items(
        train,
        settings.num_candidates,
        kl_threshold,
        settings.low_kl_fraction,
        hit_within=settings.top_k if settings.drop_misses else None,
        seed=loop.seed,
        with_anchors=model.settings.anchor == "labels",
    )
    top_items = make_items(choosing, settings.top_k, kl_threshold)
    if not items or not top_items:
        side, rows = ("held out to choose by", choosing) if items else ("trained on", train)
        raise LabelError(
            f"labels: none of the {len(rows)} problems that are {side} has a step above KL "
            f"{kl_threshold:.4g}; collect more problems, or change --held_out"
        )
    items = with_regret_weights(items, settings.regret)
    # Without branches, scoring all steps of a text costs no more than scoring its top ones.
    scores_all_steps = labels.manifest.steps == "all" and not model.settings.looks_ahead
    all_items = all_step_items(choosing, settings.top_k) if scores_all_steps else []
    if settings.keep in ("gain", "tuned_gain") and not all_items:
        raise ValueError(
            f"keep={settings.keep}: it needs labels at every step (`s2t-eval collect --steps all`) and the "
            "form direct"
        )
    evaluation = Evaluation(
        model,
        top_items,
        all_items,
        len(choosing),
        with_tuned_gain=settings.keep == "tuned_gain",
        with_tuned_agreement=settings.keep == "tuned_agree@1",
    )
    metric = kept_metric(settings.keep)
    return Loop[Item](
        model, items, model.pack, evaluation, metric, loop, folder, identity, no_decay=("readout",)
    ).run()
