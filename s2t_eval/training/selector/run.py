"""From a label set to a selector folder: selector, routers, thresholds, and the figures of all of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.selector_folder import (
    PROPOSERS,
    Selector,
    SelectorError,
    SelectorInfo,
    save_selector,
)
from s2t_eval.ranges import AT_LEAST_2, PART, SHARE, require_ranges
from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
from s2t_eval.training.loop import Loop, LoopSettings, Trained
from s2t_eval.training.selector.agreement import agreement, agreement_of, gains, score_items
from s2t_eval.training.selector.model import SelectorModel, SelectorSettings
from s2t_eval.training.selector.packing import Item, make_items
from s2t_eval.training.selector.proposers import (
    UNMEASURED,
    Routing,
    Scanned,
    every_step,
    make_routing,
    scan_scales,
    scan_triggers,
)
from s2t_eval.training.student import Student

MADE_OF = ("student", "teacher", "vocabulary", "data", "prompt", "teacher_context", "steps", "tau")
"""Of a label set's manifest; the rest was measured."""
Keep = Literal["agree@1", "gain"]


@dataclass(frozen=True)
class TrainSettings:
    """What to train beside the selector's form and the loop.

    Args:
        num_candidates: K in training.
        top_k: K in decoding; held-out figures are taken with it.
        quiet: share of the steps outside the top tau that is learnt from too (labels of `--steps all`).
        held_out: share of the questions that is never trained on.
        keep: the held-out figure whose best evaluation is kept: `agree@1` at the top steps, or `gain`, what
            the picks at every step gain a text in the teacher's log-probability (for proposer `tuned`, which
            writes every token).

    Raises:
        ValueError: a value outside its range, or more candidates in decoding than in training.
    """

    num_candidates: int = 16
    top_k: int = 8
    quiet: float = 0.0
    held_out: float = 0.1
    keep: Keep = "agree@1"

    def __post_init__(self) -> None:
        require_ranges(self, num_candidates=AT_LEAST_2, top_k=AT_LEAST_2, quiet=SHARE, held_out=PART)
        if self.top_k > self.num_candidates:
            raise ValueError(
                f"top_k: expected at most the {self.num_candidates} candidates of training "
                f"(num_candidates), got {self.top_k}"
            )


def train_selector(
    student: Student,
    labels: LabelSet,
    selector: SelectorSettings,
    loop: LoopSettings,
    settings: TrainSettings,
    out: Path,
    start: Selector | None = None,
) -> SelectorInfo:
    """Train selector and routers and write the folder `out`; checkpoints lie in `out.training` until then.

    Args:
        student: the plain student.
        labels: of this student.
        selector: what to train.
        loop: how long and how fast.
        settings: the rest.
        out: folder to write.
        start: a selector of this student to begin with, instead of an untrained one.

    Raises:
        LabelError: labels of another student or tokenizer, or too few.
        SelectorError: a `start` of another form or size, or one that learnt from problems held out here.
        TrainingError: a loss that is not a number.
        WriteError: a checkpoint or the folder could not be written.
    """
    labels.require_student(student.fingerprint, student.vocabulary)
    if settings.quiet and labels.manifest.steps != "all":
        raise ValueError(
            f"quiet: {settings.quiet} of the other steps are asked for, and these labels have candidates at "
            "the top steps alone; run `s2t-eval collect --steps all`, or leave it out"
        )
    train, held_out = labels.split(settings.held_out)
    identity: dict[str, Any] = {
        "labels": data_hash([asdict(labels.manifest)]),
        "student": student.fingerprint,
        "selector": asdict(selector),
        "settings": asdict(settings),
    }
    work = out.with_name(out.name + ".training")
    if start is not None:
        identity["start"] = start.hash
        _require_continuation(start, selector, labels, settings)
    torch.manual_seed(loop.seed)
    model = make_model(student, selector, start)
    trained = _fit(model, labels, train, held_out, loop, settings, work / "selector", identity)
    figures: dict[str, Any] = {
        "held_out": {k: v for k, v in trained.best.items() if k not in ("step", "train_loss")},
        "held_out_problems": len(held_out),
        "problems": len(train),
        "steps": trained.steps,
        "best_step": trained.best_step,
        "history": trained.history,
        "settings": {**identity, "loop": asdict(loop)},
    }
    # The plain student's router has nothing to do with the adapter: of the same labels it is the same.
    known = {"base": start.routers["base"]} if start is not None and "base" in start.routers else {}
    routings: dict[str, Routing] = {
        proposer: make_routing(
            student, model.peft, proposer, train, held_out, work / f"router-{proposer}", identity,
            known.get(proposer),
        )
        for proposer in PROPOSERS
    }  # fmt: skip
    info = _describe(student, labels, selector, settings, held_out, routings, figures)
    info = with_defaults(info, model, labels, held_out, settings, routings, loop.precision)
    processes = PartialState()
    if processes.is_main_process:
        routers = {proposer: routing.router for proposer, routing in routings.items()}
        save_selector(out, info, model.readout, routers, model.peft)
        shutil.rmtree(work)
    processes.wait_for_everyone()
    return info


def _describe(
    student: Student,
    labels: LabelSet,
    selector: SelectorSettings,
    settings: TrainSettings,
    held_out: Sequence[Trajectory],
    routings: Mapping[str, Routing],
    figures: dict[str, Any],
) -> SelectorInfo:
    """What the folder says of itself, but for its defaults."""
    figures["triggers"] = {proposer: routing.report() for proposer, routing in routings.items()}
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
        training=figures,
        teacher=labels.manifest.teacher,
    )


def with_defaults(
    info: SelectorInfo,
    model: SelectorModel,
    labels: LabelSet,
    held_out: Sequence[Trajectory],
    settings: TrainSettings,
    routings: Mapping[str, Routing],
    precision: str,
) -> SelectorInfo:
    """The same with a default for each of these proposers, and the gains that it follows from.

    Without labels at every step the gain outside the top tau is unknown, and the router at tau 5 % is the
    default.
    """
    if labels.manifest.steps != "all":
        return replace(info, defaults={**info.defaults, **dict.fromkeys(routings, UNMEASURED)})
    items = every_step(held_out, settings.top_k)
    scanned: dict[str, Scanned] = {
        proposer: scan_triggers(model, items, len(held_out), proposer, routing, precision)
        for proposer, routing in routings.items()
    }
    scans = {**info.training.get("scan", {}), **{key: found.scan for key, found in scanned.items()}}
    figures = {**info.training, "scan": scans}
    defaults = {**info.defaults, **{key: found.default for key, found in scanned.items()}}
    info = replace(info, defaults=defaults, training=figures)
    if "base" in scanned:
        info = replace(info, proposal_weight=scanned["base"].proposal_weight)
    if "tuned" in scanned and not model.settings.looks_ahead:
        scales = scan_scales(model, items, len(held_out), precision)
        best = float(max(scales, key=scales.__getitem__))
        info = replace(info, adapter_scale=best, training={**figures, "adapter_scales": scales})
    return info


def make_model(student: Student, selector: SelectorSettings, start: Selector | None) -> SelectorModel:
    """An untrained selector, or one with what `start` has learnt."""
    if start is None:
        return SelectorModel(student.model, selector, student.text_vocab)
    rows = start.readout.to(student.model.device)
    model = SelectorModel(student.model, selector, student.text_vocab, rows)
    start.load_adapter(model.peft)
    return model


def _require_continuation(
    start: Selector, selector: SelectorSettings, labels: LabelSet, settings: TrainSettings
) -> None:
    """Raise `SelectorError` unless training can go on from `start` and its figures stay honest."""
    trained = start.info.training["settings"]
    for name in ("form", "score_as", "bins", "rank", "alpha"):
        ours, given = trained["selector"][name], getattr(selector, name)
        if ours != given:
            raise SelectorError(
                f"start={start.folder}: it was trained with {name}={ours}, got {name}={given}; give the same"
            )
    require_same_labels(f"start={start.folder}", start.info, labels, settings.held_out)


def require_same_labels(
    what: str, info: SelectorInfo, labels: LabelSet, held_out: float | None = None
) -> None:
    """Raise `SelectorError` unless problems that are held out now were held out before.

    Labels that were collected twice differ in the last digits of what was measured, not in their problems.
    """
    same_split = held_out is None or info.training["settings"]["settings"]["held_out"] == held_out
    before, now = info.labels, asdict(labels.manifest)
    if any(before.get(name) != now[name] for name in MADE_OF) or not same_split:
        raise SelectorError(
            f"{what}: it was trained on other labels or another --held_out, so problems that are held out "
            "here may have been learnt from; use the same, or train from the beginning"
        )


def _fit(
    model: SelectorModel,
    labels: LabelSet,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    loop: LoopSettings,
    settings: TrainSettings,
    folder: Path,
    identity: Mapping[str, Any],
) -> Trained:
    kl_above = labels.manifest.kl_threshold
    items = make_items(train, settings.num_candidates, kl_above, settings.quiet)
    checked = make_items(held_out, settings.top_k, kl_above)
    if not items or not checked:
        side, rows = ("held out", held_out) if items else ("trained on", train)
        raise LabelError(
            f"labels: none of the {len(rows)} problems that are {side} has a step above KL {kl_above:.4g}; "
            "collect more problems, or change --held_out"
        )

    # Without branches all steps of a text cost no more than its top ones.
    sees_all = labels.manifest.steps == "all" and not model.settings.looks_ahead
    every = every_step(held_out, settings.top_k) if sees_all else []
    if settings.keep == "gain" and not every:
        raise ValueError(
            "keep=gain: it needs labels at every step (`s2t-eval collect --steps all`) and the form direct"
        )

    def evaluate() -> dict[str, float]:
        if not every:
            return agreement(model, checked)
        scores = score_items(model, every, 1)
        top = {item.source: item.steps for item in checked}
        of_top = [
            of_text[torch.isin(item.steps, top[item.source])]
            for item, of_text in zip(every, scores, strict=True)
            if item.source in top
        ]
        gain = float(gains(torch.cat(scores), every).sum()) / len(held_out)
        return {**agreement_of(of_top, checked, model.settings), "gain": gain}

    return Loop[Item](
        model, items, model.pack, evaluate, settings.keep, loop, folder, identity, no_decay=("readout",)
    ).run()
