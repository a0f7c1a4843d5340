"""From a label set to a selector folder: selector, router, thresholds, and the figures of all three."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.calibration import quantile_thresholds
from s2t_eval.checkpoint import (
    PROPOSERS,
    Proposer,
    Selector,
    SelectorError,
    SelectorInfo,
    adapter_on,
    save_selector,
    scale_adapter,
)
from s2t_eval.engine import SlotModel
from s2t_eval.fingerprint import data_hash
from s2t_eval.ranges import AT_LEAST_2, PART, SHARE, require_ranges
from s2t_eval.router import Router
from s2t_eval.training.agreement import agreement, agreement_of, gains, score_items
from s2t_eval.training.labels import LabelSet, Trajectory
from s2t_eval.training.loop import Loop, LoopSettings, Trained, autocast
from s2t_eval.training.packing import Item, make_items
from s2t_eval.training.router import StepTable, tabulate, train_router
from s2t_eval.training.selector_model import SelectorModel, SelectorSettings
from s2t_eval.training.triggers import trigger_report

SCANNED_TAUS = (0.01, 0.05, 0.1, 0.2, 0.5)
PROPOSAL_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
ADAPTER_SCALES = (1.0, 0.7, 0.5)
Keep = Literal["agree@1", "gain"]
ROUTER_LOOP = LoopSettings(
    epochs=20, lr=1e-3, batch_size=4, accumulate=1, weight_decay=0.05, evaluations=1, patience=5
)


@dataclass(frozen=True)
class TrainSettings:
    """What to train beside the selector's form and the loop.

    Args:
        num_candidates: K in training.
        top_k: K in decoding; held-out figures are taken with it.
        quiet: share of the steps outside the top tau that is learnt from too (labels of `--steps all`).
        held_out: share of the questions that is never trained on.
        proposers: for which proposers routers and thresholds are made.
        default_proposer: what the folder proposes with unless the user says otherwise.
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
    proposers: tuple[Proposer, ...] = PROPOSERS
    default_proposer: Proposer = "base"
    keep: Keep = "agree@1"

    def __post_init__(self) -> None:
        require_ranges(self, num_candidates=AT_LEAST_2, top_k=AT_LEAST_2, quiet=SHARE, held_out=PART)
        if self.top_k > self.num_candidates:
            raise ValueError(
                f"top_k: expected at most the {self.num_candidates} candidates of training "
                f"(num_candidates), got {self.top_k}"
            )


@dataclass(frozen=True)
class Student:
    """The student to adapt, and what identifies it."""

    model: PreTrainedModel
    name: str
    fingerprint: str
    vocabulary: str
    text_vocab: int


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
    model = _make_model(student, selector, start)
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
    routers, thresholds, tables = _routers(
        student, model.peft, train, held_out, settings, work, identity, known
    )
    figures["triggers"] = {
        proposer: trigger_report(
            tables[proposer].divergences(routers[proposer]), tables[proposer].all_kl.numpy()
        )
        for proposer in routers
    }
    scored = labels.manifest.steps == "all"
    default = choose_default(
        model, held_out if scored else None, tables, routers, thresholds, settings, loop.precision
    )
    figures["scan"] = default.scan
    scales: dict[str, float] = {}
    if scored and not selector.looks_ahead:
        known_scales = {"1.0": default.scan["always"]}
        scales = figures["adapter_scales"] = scan_scales(
            model, held_out, settings, loop.precision, known_scales
        )
    info = SelectorInfo(
        base=student.fingerprint,
        base_name=student.name,
        vocabulary=student.vocabulary,
        hidden_size=int(model.readout.shape[1]),
        form=selector.form,
        score_as=selector.score_as,
        bins=selector.bins,
        temperature=selector.effective_temperature,
        num_candidates=settings.num_candidates,
        top_k=settings.top_k,
        thresholds=thresholds,
        threshold_steps=sum(len(row.output_ids) for row in held_out),
        default=default.settings,
        labels=asdict(labels.manifest),
        training=figures,
        teacher=labels.manifest.teacher,
        proposal_weight=default.proposal_weight,
        adapter_scale=float(max(scales, key=scales.__getitem__, default=1.0)),
    )
    processes = PartialState()
    if processes.is_main_process:
        save_selector(out, info, model.readout, routers, model.peft)
        shutil.rmtree(work)
    processes.wait_for_everyone()
    return info


def _make_model(student: Student, selector: SelectorSettings, start: Selector | None) -> SelectorModel:
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
    same_split = trained["settings"]["held_out"] == settings.held_out
    if start.info.labels != asdict(labels.manifest) or not same_split:
        raise SelectorError(
            f"start={start.folder}: it was trained on other labels or another --held_out, so problems that "
            "are held out here may have been learnt from; use the same, or train from the beginning"
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

    # Without branches all steps of a text cost no more than its top ones.
    sees_all = labels.manifest.steps == "all" and not model.settings.looks_ahead
    every = _every_step(held_out, settings) if sees_all else []
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


def _routers(
    student: Student,
    peft: PeftModel,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    settings: TrainSettings,
    work: Path,
    identity: Mapping[str, Any],
    known: Mapping[str, Router],
) -> tuple[dict[str, Router], dict[str, dict[str, dict[str, float]]], dict[str, StepTable]]:
    """Of each proposer: its router (trained, unless known), its thresholds on held-out steps, their table."""
    routers: dict[str, Router] = {}
    thresholds: dict[str, dict[str, dict[str, float]]] = {}
    tables: dict[str, StepTable] = {}
    layers: Any = peft.base_model
    student.model.eval()
    for proposer in settings.proposers:
        layers.disable_adapter_layers()
        model = SlotModel(student.model, student.name, student.text_vocab)
        with adapter_on(peft) if proposer == "tuned" else nullcontext():
            has_written = proposer == "base"
            checked = tabulate(model, held_out, has_written)
            table = None if proposer in known else tabulate(model, train, has_written)
        if table is None:
            router = known[proposer].to(model.device)
        else:
            folder = work / f"router-{proposer}"
            # Large sets take larger batches: a few hundred steps an epoch are enough for so small a network.
            loop = replace(ROUTER_LOOP, batch_size=max(ROUTER_LOOP.batch_size, len(train) // 400))
            router, _ = train_router(
                table, checked, loop, folder, {**identity, "proposer": proposer}, model.device
            )
        routers[proposer], tables[proposer] = router, checked
        found = {
            name: dict(quantile_thresholds(values.tolist(), SCANNED_TAUS))
            for name, values in checked.divergences(router).items()
        }
        for direction in ("student_teacher", "teacher_student"):
            values = np.concatenate([getattr(row, f"kl_{direction}") for row in held_out])
            found[f"kl:{direction}"] = dict(quantile_thresholds(values.tolist(), SCANNED_TAUS))
        thresholds[proposer] = found
    layers.enable_adapter_layers()
    return routers, thresholds, tables


class Default(NamedTuple):
    """What `choose_default` found."""

    settings: dict[str, Any]
    """proposer, trigger and tau, and how they were chosen"""
    proposal_weight: float
    scan: dict[str, float]
    """mean gain a text, nats, of everything scanned: by trigger and tau, and by weight where it is not 0"""


def choose_default(
    model: SelectorModel,
    held_out: Sequence[Trajectory] | None,
    tables: Mapping[str, StepTable],
    routers: Mapping[str, Router],
    thresholds: Mapping[str, Mapping[str, Mapping[str, float]]],
    settings: TrainSettings,
    precision: str = "no",
) -> Default:
    """The local trigger, rate and share of the proposer's own with the largest gain on held-out texts.

    Triggers go up to firing at every step. The gain of a step is the teacher's log-probability of what the
    selector picks minus that of the student's own first token, in nats; a selector that harms quiet steps
    loses there. Without labels at every step (`held_out` None) the gain outside the top tau is unknown, and
    the router at tau 5 % is the default.
    """
    proposer = settings.default_proposer if settings.default_proposer in tables else settings.proposers[0]
    fallback = {"proposer": proposer, "trigger": "router", "tau": 0.05, "chosen": "not measured"}
    if held_out is None:
        return Default(fallback, 0.0, {})
    items = _every_step(held_out, settings)
    scores = _scores(model, items, precision)
    divergences = tables[proposer].divergences(routers[proposer])
    scan: dict[str, float] = {}
    best, weight_of_best = "", 0.0
    # Only proposer `base` proposes what the labels hold of the student.
    for weight in PROPOSAL_WEIGHTS if proposer == "base" else (0.0,):
        gain = gains(scores, items, weight)
        found = {"always": float(gain.sum() / len(held_out))}
        for name, values in divergences.items():
            for tau, threshold in thresholds[proposer][name].items():
                found[f"{name}@{tau}"] = float(gain[values > threshold].sum() / len(held_out))
        best_here = max(found, key=lambda name: found[name])
        if not best or found[best_here] > max(scan.values()):
            best, weight_of_best = best_here, weight
        scan.update({f"{name}+{weight}" if weight else name: value for name, value in found.items()})
    trigger, _, tau = best.partition("@")
    named = {**fallback, "trigger": trigger, "tau": float(tau) if tau else None, "chosen": "held-out gain"}
    return Default(named, weight_of_best, scan)


def scan_scales(
    model: SelectorModel,
    held_out: Sequence[Trajectory],
    settings: TrainSettings,
    precision: str = "no",
    known: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """What picks at every step gain a text, nats, by how much of the adapter is added (form `direct`).

    Args:
        model: the trained selector; its adapter is whole again afterwards.
        held_out: texts with candidates at every step.
        settings: of its training.
        precision: the loop's.
        known: scales that were measured already, with their gain.
    """
    items = _every_step(held_out, settings)
    found = dict(known or {})
    for scale in ADAPTER_SCALES:
        if str(scale) not in found:
            scale_adapter(model.peft, scale)
            gain = gains(_scores(model, items, precision), items)
            found[str(scale)] = float(gain.sum()) / len(held_out)
    scale_adapter(model.peft, 1.0)
    return found


def _every_step(trajectories: Sequence[Trajectory], settings: TrainSettings) -> list[Item]:
    """Items of all steps, with the candidates of decoding."""
    return make_items(trajectories, settings.top_k, -np.inf)


def _scores(model: SelectorModel, items: Sequence[Item], precision: str) -> Tensor:
    """Scores of all items' groups, [groups, K], as the loop's precision has them."""
    model.eval()
    with autocast(precision, model.readout.device):
        return torch.cat(score_items(model, items, 1))
