"""From a label set to a selector folder: selector, routers, thresholds, and the held-out figures of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from s2t_eval.methods.selector_folder import PROPOSERS, Selector, SelectorInfo, save_selector
from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
from s2t_eval.training.loop import Loop, LoopSettings, Metrics, TrainingResult
from s2t_eval.training.selector.agreement import agreement, agreement_of, gains, score_items
from s2t_eval.training.selector.continuation import make_model, require_same_form, require_same_labels
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.items import Item, make_items, with_regret_weights
from s2t_eval.training.selector.routing import Routing, make_routing
from s2t_eval.training.selector.settings import SelectorSettings
from s2t_eval.training.selector.settings import TrainSettings as TrainSettings
from s2t_eval.training.selector.trigger_scan import all_step_items, with_defaults
from s2t_eval.training.student import Student


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
    train, held_out = labels.split(settings.held_out)
    train = train[: settings.limit]
    if start is not None:
        require_same_form(start, selector)
        require_same_labels(f"start={start.folder}", start.info, labels, settings.held_out)
    identity = _identity(student, labels, selector, settings, start)
    work = out.with_name(out.name + ".training")
    torch.manual_seed(loop.seed)
    model = make_model(student, selector, start)
    result = _fit(model, labels, train, held_out, loop, settings, work / "selector", identity)
    routings = _train_routers(student, model, train, held_out, work, identity, start)
    training = {
        **_training_record(result, train, held_out, {**identity, "loop": asdict(loop)}),
        "triggers": {proposer: routing.report() for proposer, routing in routings.items()},
    }
    info = _describe(student, labels, selector, settings, held_out, routings, training)
    info = with_defaults(info, model, labels, held_out, settings.top_k, routings, loop.precision)
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
        "student": student.fingerprint,
        "selector": asdict(selector),
        "settings": asdict(settings),
    }
    return identity if start is None else {**identity, "start": start.hash}


def _train_routers(
    student: Student,
    model: SelectorModel,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    work: Path,
    identity: Mapping[str, Any],
    start: Selector | None,
) -> dict[str, Routing]:
    """Proposer -> its router and thresholds."""
    trained = {}
    if start is not None and "base" in start.routers:
        # The plain student's router does not depend on the adapter: the same labels give the same router.
        trained["base"] = start.routers["base"]
    return {
        proposer: make_routing(
            student, model.peft, proposer, train, held_out, work / f"router-{proposer}", identity,
            trained.get(proposer),
        )
        for proposer in PROPOSERS
    }  # fmt: skip


def _training_record(
    result: TrainingResult,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What the manifest keeps of the training loop."""
    return {
        "held_out": {k: v for k, v in result.best.items() if k not in ("step", "train_loss")},
        "held_out_problems": len(held_out),
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
    selector: SelectorSettings,
    settings: TrainSettings,
    held_out: Sequence[Trajectory],
    routings: Mapping[str, Routing],
    training: dict[str, Any],
) -> SelectorInfo:
    """The folder's manifest, without the defaults of its proposers."""
    return SelectorInfo(
        base=student.fingerprint,
        base_name=student.name,
        vocabulary=student.vocabulary,
        hidden_size=student.hidden_size,
        form=selector.form,
        score_as=selector.score_as,
        bins=selector.bins,
        temperature=selector.effective_temperature,
        num_candidates=settings.num_candidates,
        top_k=settings.top_k,
        thresholds={proposer: routing.thresholds for proposer, routing in routings.items()},
        threshold_steps=sum(len(row.output_ids) for row in held_out),
        defaults={},
        labels=asdict(labels.manifest),
        training=training,
        teacher=labels.manifest.teacher,
    )


def _save(
    out: Path, info: SelectorInfo, model: SelectorModel, routings: Mapping[str, Routing], work: Path
) -> None:
    """Write the folder on the main process and remove the checkpoints."""
    processes = PartialState()
    if processes.is_main_process:
        routers = {proposer: routing.router for proposer, routing in routings.items()}
        save_selector(out, info, model.readout, routers, model.peft)
        shutil.rmtree(work)
    processes.wait_for_everyone()


def _fit(
    model: SelectorModel,
    labels: LabelSet,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    loop: LoopSettings,
    settings: TrainSettings,
    folder: Path,
    identity: Mapping[str, Any],
) -> TrainingResult:
    """Run the training loop over the steps that are trained on."""
    kl_threshold = labels.manifest.kl_threshold
    items = make_items(
        train,
        settings.num_candidates,
        kl_threshold,
        settings.low_kl_fraction,
        drop_misses=settings.drop_misses,
        with_anchors=model.settings.anchor == "labels",
    )
    items = with_regret_weights(items, settings.regret)
    top_items = make_items(held_out, settings.top_k, kl_threshold)
    if not items or not top_items:
        side, rows = ("held out", held_out) if items else ("trained on", train)
        raise LabelError(
            f"labels: none of the {len(rows)} problems that are {side} has a step above KL "
            f"{kl_threshold:.4g}; collect more problems, or change --held_out"
        )
    # Without branches, scoring all steps of a text costs no more than scoring its top ones.
    scores_all_steps = labels.manifest.steps == "all" and not model.settings.looks_ahead
    all_items = all_step_items(held_out, settings.top_k) if scores_all_steps else []
    if settings.keep == "gain" and not all_items:
        raise ValueError(
            "keep=gain: it needs labels at every step (`s2t-eval collect --steps all`) and the form direct"
        )
    evaluate = _evaluation(model, top_items, all_items, len(held_out))
    return Loop[Item](
        model, items, model.pack, evaluate, settings.keep, loop, folder, identity, no_decay=("readout",)
    ).run()


def _evaluation(
    model: SelectorModel, top_items: Sequence[Item], all_items: Sequence[Item], num_texts: int
) -> Callable[[], Metrics]:
    """The evaluation of the training loop.

    Args:
        model: the selector that is trained.
        top_items: the top steps of the held-out texts.
        all_items: all their steps, which also give `gain`; empty where it is not measured.
        num_texts: number of held-out texts.
    """

    def evaluate() -> Metrics:
        if not all_items:
            return agreement(model, top_items)
        scores = score_items(model, all_items, 1)
        top_steps = {item.source: item.steps for item in top_items}
        top_scores = [
            text_scores[torch.isin(item.steps, top_steps[item.source])]
            for item, text_scores in zip(all_items, scores, strict=True)
            if item.source in top_steps
        ]
        gain = float(gains(torch.cat(scores), all_items).sum()) / num_texts
        return {**agreement_of(top_scores, top_items, model.settings), "gain": gain}

    return evaluate
