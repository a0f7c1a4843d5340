"""Training of the router: which steps belong to the top tau by KL, from what the student has at a step."""

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
from s2t_eval.training.loop import Loop, LoopSettings, Trained
from s2t_eval.training.trigger_recall import TAUS, trigger_report

HEAD_CHUNK = 256


@dataclass(frozen=True)
class StepTable:
    """Every step of some trajectories: what the router sees, what other triggers say, what KL is.

    Args:
        features: [steps, inputs] of each trajectory, float16 to halve a large set.
        entropy: nats, [steps] each.
        margin: [steps] each.
        kl: KL(p_S || p_L), nats, [steps] each.
        sources: shard and row of each.
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
        """Local triggers' divergences at all steps."""
        found = {"entropy": torch.cat(self.entropy).numpy(), "margin": torch.cat(self.margin).numpy()}
        return found if router is None else {"router": self.router_odds(router).numpy(), **found}

    @torch.inference_mode()
    def router_odds(self, router: Router) -> Tensor:
        """A router's log-odds at all steps, [steps]."""
        device = router.mean.device
        return torch.cat([router(features.float().to(device)).cpu() for features in self.features])


@torch.inference_mode()
def tabulate(model: ModelRunner, trajectories: Sequence[Trajectory], has_written: bool) -> StepTable:
    """Run the student (adapted or not) over its labelled texts, one prefill each.

    Args:
        model: the proposer whose steps the router will see.
        trajectories: labelled texts.
        has_written: whether the texts are this model's own; its probabilities at each step then stand in
            the labels, and its head rests.
    """
    features, entropies, margins = [], [], []
    for row in tqdm(trajectories, desc="Reading steps", leave=False):
        (states,) = model.encode([row.text_ids[:-1].tolist()])
        steps = states[len(row.prompt_ids) - 1 :]
        look = _recorded(row) if has_written else _look(model, steps)
        log_probs, entropy, margin = (values.to(steps.device) for values in look)
        features.append(step_features(steps, log_probs, entropy).half().cpu())
        entropies.append(entropy.cpu())
        margins.append(margin.cpu())
    model.release()
    return StepTable(
        features,
        entropies,
        margins,
        [torch.from_numpy(row.kl_student_teacher) for row in trajectories],
        [f"{row.shard}, row {row.row} ({row.problem_id})" for row in trajectories],
    )


def _recorded(row: Trajectory) -> tuple[Tensor, ...]:
    """Top log-probabilities, entropy and margin as they were when the text was written."""
    return tuple(map(torch.from_numpy, (row.top_log_probs, row.entropy, row.margin)))


def _look(model: ModelRunner, states: Tensor) -> tuple[Tensor, ...]:
    """The same of any model, from its hidden states [steps, hidden]."""
    parts = [_look_at(model.head(part)) for part in states.split(HEAD_CHUNK)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _look_at(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    step = Step(logits, None, lambda: logits[:, 0])
    log_probs = step.top.values - step.log_total
    return log_probs, EntropyTrigger().divergence(step), MarginTrigger().divergence(step)


class RouterItem(NamedTuple):
    """One trajectory's steps."""

    features: Tensor
    kl: Tensor
    source: str

    @property
    def weight(self) -> float:
        """Its steps."""
        return float(len(self.kl))


class _Loss(NamedTuple):
    loss: Tensor


class RouterModel(nn.Module):
    """Ordinal cross-entropy: one score, which belongs to the top tau for each of several tau.

    A single threshold at 10 % would order the steps above it at random; rates of 1 to 20 % are used.

    Args:
        router: the network.
        thresholds: KL above which a step is in the top tau, ascending rates, [rates].
    """

    thresholds: Tensor

    def __init__(self, router: Router, thresholds: Tensor) -> None:
        super().__init__()
        self.router = router
        self.register_buffer("thresholds", thresholds)
        rates = torch.tensor(TAUS)
        self.offsets = nn.Parameter((rates / (1 - rates)).log())

    def forward(self, items: Sequence[RouterItem]) -> _Loss:
        """Cross-entropy summed over steps."""
        device = self.offsets.device
        odds = self.router(torch.cat([item.features for item in items]).float().to(device))
        kl = torch.cat([item.kl for item in items]).to(device)
        is_top = (kl[:, None] > self.thresholds).float()
        logits = odds[:, None] + self.offsets
        loss = nn.functional.binary_cross_entropy_with_logits(logits, is_top, reduction="sum")
        return _Loss(loss / len(TAUS))


def train_router(
    train: StepTable,
    held_out: StepTable,
    settings: LoopSettings,
    folder: Path,
    identity: Mapping[str, Any],
    device: torch.device,
) -> tuple[Router, Trained]:
    """Train on all steps: prompts' ends, early and quiet ones are negatives too.

    Keeps the parameters with the best held-out recall at a rate of 5 %.
    """
    inputs = train.features[0].shape[1]
    hidden_size = inputs - step_features(torch.zeros(1, 0), torch.zeros(1, 2), torch.zeros(1)).shape[1]
    torch.manual_seed(settings.seed)
    router = Router(hidden_size)
    router.fit_scale(torch.cat(train.features[:200]).float())
    kl = train.all_kl
    thresholds = torch.tensor([torch.quantile(kl[:10_000_000], 1 - tau) for tau in TAUS])
    model = RouterModel(router, thresholds).to(device)
    items = [
        RouterItem(features, divergence, source)
        for features, divergence, source in zip(train.features, train.kl, train.sources, strict=True)
    ]

    def evaluate() -> dict[str, float]:
        values = {"router": held_out.router_odds(router).numpy()}
        report = trigger_report(values, held_out.all_kl.numpy())
        return {f"recall@{tau}": report[f"router@{tau}"]["recall"] for tau in TAUS}

    loop = Loop(
        model, items, list, evaluate, "recall@0.05", settings, folder, identity, no_decay=("offsets",)
    )
    trained = loop.run()
    return router.eval().cpu(), trained
