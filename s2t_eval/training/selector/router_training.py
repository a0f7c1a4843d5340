"""Training of the router, which predicts from the student's state whether a step is in the top tau by KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from s2t_eval.engine import ModelRunner
from s2t_eval.selection.router import Router, step_features
from s2t_eval.selection.step import Step
from s2t_eval.selection.triggers import EntropyTrigger, MarginTrigger
from s2t_eval.training.labels import Trajectory
from s2t_eval.training.loop import Loop, Loss, Metrics, TrainingResult
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.step_states import by_chunks, step_states
from s2t_eval.training.trigger_recall import TAUS, trigger_report

HEAD_CHUNK = 256


@dataclass(frozen=True)
class StepTable:
    """Router inputs, the divergences of other local triggers and the teacher's KL, at every step.

    Args:
        features: router inputs of each trajectory, [steps, inputs], in float16 to save memory.
        entropy: the student's entropy, nats, [steps] each.
        margin: 1 - (p_1 - p_2) of the student's two most likely tokens, [steps] each.
        kl: KL(p_S || p_L), nats, [steps] each.
        sources: shard and row of each trajectory, for messages.
    """

    features: list[Tensor]
    entropy: list[Tensor]
    margin: list[Tensor]
    kl: list[Tensor]
    sources: list[str]

    @property
    def all_kl(self) -> Tensor:
        """KL of all steps, [steps]."""
        return torch.cat(self.kl)

    def divergences(self, router: Router | None) -> dict[str, np.ndarray]:
        """Local trigger -> its divergence at all steps, [steps]; with a router also the router's."""
        values = {"entropy": torch.cat(self.entropy).numpy(), "margin": torch.cat(self.margin).numpy()}
        return values if router is None else {"router": self.router_log_odds(router).numpy(), **values}

    @torch.inference_mode()
    def router_log_odds(self, router: Router) -> Tensor:
        """A router's log-odds at all steps, [steps]."""
        device = router.mean.device
        return torch.cat([router(features.float().to(device)).cpu() for features in self.features])


@torch.inference_mode()
def step_table(model: ModelRunner, trajectories: Sequence[Trajectory], is_own_text: bool) -> StepTable:
    """Run the student, adapted or plain, over its labelled texts, with one prefill each.

    Args:
        model: the proposer whose hidden states the router is trained on.
        trajectories: labelled texts.
        is_own_text: whether this model generated the texts. Its probabilities are then read from the
            labels, and the LM head is not run, except over labels whose entropies are not exact.
    """
    features, entropies, margins = [], [], []
    for row in tqdm(trajectories, desc="Encoding texts", leave=False):
        (states,) = step_states(model, [row.prompt_ids.tolist()], [row.output_ids.tolist()])
        is_recorded = is_own_text and row.has_exact_entropy
        statistics = _recorded_statistics(row) if is_recorded else _statistics(model, states)
        log_probs, entropy, margin = (values.to(states.device) for values in statistics)
        features.append(step_features(states, log_probs, entropy).half().cpu())
        entropies.append(entropy.cpu())
        margins.append(margin.cpu())
    model.release()
    return StepTable(
        features,
        entropies,
        margins,
        [torch.from_numpy(row.kl_student_teacher) for row in trajectories],
        [row.source for row in trajectories],
    )


def _recorded_statistics(row: Trajectory) -> tuple[Tensor, ...]:
    """Top log-probabilities, entropy and margin at every step, as recorded when the text was generated."""
    return tuple(map(torch.from_numpy, (row.top_log_probs, row.entropy, row.margin)))


def _statistics(model: ModelRunner, states: Tensor) -> tuple[Tensor, ...]:
    """Top log-probabilities, entropy and margin at every step, from hidden states [steps, hidden]."""
    return by_chunks(lambda part: _statistics_of_logits(model.head(part)), states, size=HEAD_CHUNK)


def _statistics_of_logits(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    step = Step(logits, None, lambda: logits[:, 0])
    log_probs = step.top.values - step.log_total
    return log_probs, EntropyTrigger().divergence(step), MarginTrigger().divergence(step)


class RouterItem(NamedTuple):
    """The steps of one trajectory."""

    features: Tensor
    """router inputs, [steps, inputs]"""
    kl: Tensor
    """KL(p_S || p_L), nats, [steps]"""
    source: str
    """shard and row, for messages"""

    @property
    def weight(self) -> float:
        """Its number of steps."""
        return float(len(self.kl))


class RouterModel(nn.Module):
    """A router with an ordinal loss: one score, with an offset for each tau, predicts all top-tau sets.

    With a single tau of 10 % the order of the steps within the top 10 % would be arbitrary; the loss
    therefore uses several rates from 1 to 20 %.

    Args:
        router: the network.
        kl_thresholds: KL above which a step is in the top tau, for each of `TAUS`, [rates].
    """

    kl_thresholds: Tensor

    def __init__(self, router: Router, kl_thresholds: Tensor) -> None:
        super().__init__()
        self.router = router
        self.register_buffer("kl_thresholds", kl_thresholds)
        rates = torch.tensor(TAUS)
        self.offsets = nn.Parameter((rates / (1 - rates)).log())

    def forward(self, items: Sequence[RouterItem]) -> Loss:
        """Binary cross-entropy, averaged over rates and summed over steps."""
        device = self.offsets.device
        log_odds = self.router(torch.cat([item.features for item in items]).float().to(device))
        kl = torch.cat([item.kl for item in items]).to(device)
        is_top = (kl[:, None] > self.kl_thresholds).float()
        logits = log_odds[:, None] + self.offsets
        loss = nn.functional.binary_cross_entropy_with_logits(logits, is_top, reduction="sum")
        return Loss(loss / len(TAUS))


def train_router(
    train: StepTable,
    held_out: StepTable,
    settings: LoopSettings,
    folder: Path,
    identity: Mapping[str, Any],
    device: torch.device,
) -> tuple[Router, TrainingResult]:
    """Train a router on all steps, and keep the parameters with the best held-out recall at a rate of 5 %.

    Steps of low KL and the first step of each text are included as negatives, as in decoding.

    Args:
        train: steps of the training texts.
        held_out: steps of the held-out texts.
        settings: settings of the training loop.
        folder: folder of the checkpoints.
        identity: settings of the run; checkpoints of another run are refused.
        device: where the router is trained.

    Returns:
        The router on the CPU in evaluation mode, and the outcome of training.
    """
    inputs = train.features[0].shape[1]
    hidden_size = inputs - step_features(torch.zeros(1, 0), torch.zeros(1, 2), torch.zeros(1)).shape[1]
    torch.manual_seed(settings.seed)
    router = Router(hidden_size)
    router.fit_scale(torch.cat(train.features[:200]).float())
    kl = train.all_kl
    # torch.quantile takes at most 16 million values.
    kl_thresholds = torch.tensor([torch.quantile(kl[:10_000_000], 1 - tau) for tau in TAUS])
    model = RouterModel(router, kl_thresholds).to(device)
    items = [
        RouterItem(features, divergence, source)
        for features, divergence, source in zip(train.features, train.kl, train.sources, strict=True)
    ]

    def evaluate() -> Metrics:
        values = {"router": held_out.router_log_odds(router).numpy()}
        report = trigger_report(values, held_out.all_kl.numpy())
        return {f"recall@{tau}": report[f"router@{tau}"]["recall"] for tau in TAUS}

    result = Loop(
        model, items, list, evaluate, "recall@0.05", settings, folder, identity, no_decay=("offsets",)
    ).run()
    return router.eval().cpu(), result
