"""Training of R2R's router: cross-entropy with a weight for divergent tokens, thresholds from validation.

Problems are split into three parts: the first is trained on, the second decides when training stops and
chooses the threshold, and recall and positive rate are reported on the third.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from s2t_eval.artifacts.figures import without_nan
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.methods.r2r_folder import RouterInfo, save_router
from s2t_eval.selection.divergence_router import DivergenceRouter
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.selection.thresholds import quantile_thresholds
from s2t_eval.training.loop import Loop, Loss, TrainingResult
from s2t_eval.training.processes import require_one_process
from s2t_eval.training.r2r.figures import (
    Flags,
    Values,
    choose_threshold,
    recall_and_rate,
    signals_at_rates,
)
from s2t_eval.training.r2r.labels import LabelledText, R2RLabels
from s2t_eval.training.r2r.rules import DIVERGENT, UNSCORED
from s2t_eval.training.r2r.settings import ROUTER_LR, RouterTrainSettings, ThresholdSettings
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.split import split_by_question
from s2t_eval.training.student import Student
from s2t_eval.training.trigger_recall import TAUS
from s2t_eval.training.work_folder import work_folder

Embed = Callable[[Tensor], Tensor]


class RouterItem(NamedTuple):
    """One text's tokens that have a verdict."""

    hidden: Tensor
    """float16 [steps, hidden]"""
    student_ids: Tensor
    """[steps]"""
    top_logits: Tensor
    """float16 [steps, num_logits]"""
    is_divergent: Tensor
    """float32 [steps]"""
    source: str

    @property
    def weight(self) -> float:
        """Number of its tokens."""
        return float(len(self.is_divergent))


def make_item(text: LabelledText) -> RouterItem:
    """The tokens of a labelled text; those without a verdict are left out."""
    scored = text.verdicts != UNSCORED
    is_whole = bool(scored.all())

    def pick(column: Tensor) -> Tensor:
        return column if is_whole else column[scored]  # a selection copies, beside labels that stay in memory

    return RouterItem(
        pick(text.hidden),
        pick(text.student_ids).long(),
        pick(text.top_logits),
        (pick(text.verdicts) == DIVERGENT).float(),
        text.problem_id,
    )


class RouterTraining(nn.Module):
    """Binary cross-entropy of all tokens, identical ones included.

    Args:
        router: the network that is trained.
        embed: the student's input embedding, which is frozen.
        positive_weight: weight of a divergent token.
    """

    def __init__(self, router: DivergenceRouter, embed: Embed, positive_weight: float) -> None:
        super().__init__()
        self.router = router
        self.positive_weight = positive_weight
        self._embed = (embed,)  # in a tuple, so that torch neither trains nor saves it

    def odds(self, items: Sequence[RouterItem]) -> Tensor:
        """Log-odds of all tokens of some texts, float32 [n]."""
        device = next(self.router.parameters()).device
        hidden, ids, logits = (
            torch.cat([getattr(item, name) for item in items]).to(device)
            for name in ("hidden", "student_ids", "top_logits")
        )
        with torch.no_grad():
            embedding = self._embed[0](ids)
        odds: Tensor = self.router(hidden, embedding, logits)
        return odds

    def loss(self, odds: Tensor, items: Sequence[RouterItem]) -> Tensor:
        """Cross-entropy summed over tokens."""
        targets = torch.cat([item.is_divergent for item in items]).to(odds.device)
        weight = torch.tensor(self.positive_weight, device=odds.device)
        return nn.functional.binary_cross_entropy_with_logits(
            odds.float(), targets, pos_weight=weight, reduction="sum"
        )

    def forward(self, items: Sequence[RouterItem]) -> Loss:
        """The loss of some texts."""
        return Loss(self.loss(self.odds(items), items))


def train_router(
    student: Student,
    labels: R2RLabels,
    size: RouterSize,
    loop: LoopSettings,
    settings: RouterTrainSettings,
    threshold: ThresholdSettings,
    out: Path,
) -> RouterInfo:
    """Train a router, choose its threshold and write its folder.

    Raises:
        R2RError: labels of another student, without divergent tokens, or of too few problems.
        TrainingError: training cannot continue, or there are several processes.
    """
    require_one_process("r2r train")
    loop = loop.with_default_lr(ROUTER_LR)
    labels.require_student(student.fingerprint, student.vocabulary)
    size = replace(size, num_logits=min(size.num_logits, labels.manifest.num_logits))
    train, held_out_texts = labels.split(settings.held_out)
    validation, test = split_by_question(held_out_texts, 0.5, R2RError)
    parts = [[_with_num_logits(make_item(text), size) for text in part] for part in (train, validation, test)]
    embed, device = _embedding(student)
    torch.manual_seed(loop.seed)
    router = DivergenceRouter(student.hidden_size, size).to(device)
    model = RouterTraining(router, embed, _positive_weight(parts[0], settings.recall_factor))
    identity = {
        "labels": data_hash([labels.manifest.described()]),
        **student.identity,
        "size": asdict(size),
        "settings": asdict(settings),
    }
    work = work_folder(out)
    trained = Loop[RouterItem](
        model, parts[0], list, lambda: _validation_report(model, parts[1]), "-loss", loop, work, identity
    ).run()
    model.eval()
    info = _router_info(student, labels, model, parts, trained, threshold, {**identity, "loop": asdict(loop)})
    save_router(out, info, router)
    shutil.rmtree(work)
    return info


def _embedding(student: Student) -> tuple[Embed, torch.device]:
    module: Any = student.model.get_input_embeddings()
    return module, module.weight.device


def _with_num_logits(item: RouterItem, size: RouterSize) -> RouterItem:
    return item._replace(top_logits=item.top_logits[:, : size.num_logits])


def _positive_weight(items: Sequence[RouterItem], recall_factor: float) -> float:
    divergent = sum(float(item.is_divergent.sum()) for item in items)
    if not divergent:
        raise R2RError("labels: no token of the training problems is divergent; label more problems")
    return (sum(item.weight for item in items) - divergent) / divergent * recall_factor


class _Predictions(NamedTuple):
    """A router's probability of each token of some texts."""

    probabilities: Values
    is_divergent: Flags
    loss: float


@torch.inference_mode()
def _predict(model: RouterTraining, items: Sequence[RouterItem]) -> _Predictions:
    odds = [model.odds([item]) for item in items]
    loss = sum(float(model.loss(item_odds, [item])) for item_odds, item in zip(odds, items, strict=True))
    labels = torch.cat([item.is_divergent for item in items]).bool().numpy()
    return _Predictions(torch.cat(odds).float().sigmoid().cpu().numpy(), labels, loss / max(1, len(labels)))


def _validation_report(model: RouterTraining, items: Sequence[RouterItem]) -> dict[str, float]:
    predictions = _predict(model, items)
    report = signals_at_rates({"router": predictions.probabilities}, predictions.is_divergent)["router"]
    return {"loss": predictions.loss, **report}


def _router_info(
    student: Student,
    labels: R2RLabels,
    model: RouterTraining,
    parts: Sequence[Sequence[RouterItem]],
    trained: TrainingResult,
    threshold: ThresholdSettings,
    settings: dict[str, Any],
) -> RouterInfo:
    """The folder's manifest; `parts`: the items that are trained on, of validation, and held out."""
    validation, test = (_predict(model, items) for items in parts[1:])
    chosen_threshold = choose_threshold(threshold, validation.probabilities, validation.is_divergent)
    thresholds = quantile_thresholds(validation.probabilities.tolist(), TAUS)
    at_validation = recall_and_rate(validation.probabilities, validation.is_divergent, chosen_threshold)
    training = {
        "problems": len(parts[0]),
        "validation_problems": len(parts[1]),
        "validation": at_validation,
        "positive_weight": model.positive_weight,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "averaged": trained.averaged,
        "stopped_early": trained.stopped_early,
        "history": trained.history,
        "settings": {**settings, "threshold": asdict(threshold)},
    }
    manifest = labels.manifest
    return RouterInfo(
        base=student.fingerprint,
        base_name=student.name,
        teacher=manifest.teacher,
        teacher_name=manifest.teacher_name,
        vocabulary=student.vocabulary,
        hidden_size=student.hidden_size,
        size=model.router.size,
        threshold=chosen_threshold,
        chosen_by=threshold.described,
        thresholds=thresholds,
        held_out=without_nan(_held_out_figures(test, parts[2], chosen_threshold, thresholds)),
        labels=manifest.described(),
        training=without_nan(training),
    )


def _held_out_figures(
    test: _Predictions, items: Sequence[RouterItem], threshold: float, thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Recall and rate on held-out problems at the chosen threshold and at each rate, beside other signals."""
    return {
        **recall_and_rate(test.probabilities, test.is_divergent, threshold),
        "problems": len(items),
        "by_rate": {
            tau: recall_and_rate(test.probabilities, test.is_divergent, at_tau)
            for tau, at_tau in thresholds.items()
        },
        "signals": signals_at_rates(
            {"router": test.probabilities, **_untrained_signals(items)}, test.is_divergent
        ),
    }


def _untrained_signals(items: Sequence[RouterItem]) -> dict[str, Values]:
    """Signals that need no training, over the kept logits: entropy and margin."""
    log_probs = torch.cat([item.top_logits for item in items]).float().log_softmax(-1)
    probabilities = log_probs.exp()
    entropy = -(probabilities * log_probs).sum(-1)
    margin = 1 - (probabilities[:, 0] - probabilities[:, 1]) if probabilities.shape[1] > 1 else entropy
    return {"entropy": entropy.numpy().astype(np.float32), "margin": margin.numpy().astype(np.float32)}
