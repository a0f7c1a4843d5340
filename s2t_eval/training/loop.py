"""The training loop of selectors, routers, and students of distillation, RLKD and Think-at-Hard.

Accelerate provides processes and precision. Transformers' `Trainer` is not used, because its checkpoints
pickle the optimizer and contain the whole model where only an adapter is trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_scheduler

from s2t_eval.models.attention_kernels import without_cudnn_attention
from s2t_eval.training.averaging import average_parameters
from s2t_eval.training.checkpoints import Checkpoints, Progress, TrainingError
from s2t_eval.training.processes import stay_on_device
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.work_folder import logs_folder


class TrainingItem(Protocol):
    """A training example."""

    @property
    def weight(self) -> float:
        """Its weight in the mean loss of an optimizer step, such as its number of groups or tokens."""
        ...

    @property
    def source(self) -> str:
        """Its origin, for messages."""
        ...


ItemT = TypeVar("ItemT", bound=TrainingItem)


Metrics = dict[str, float]
"""Name -> value of held-out metrics."""


class Loss(NamedTuple):
    """What a module returns for a batch: its loss, summed over the batch's weights."""

    loss: Tensor


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training run.

    Args:
        steps: optimizer steps done.
        best_step: the step whose parameters were kept, 0 for the untrained ones.
        history: step, training loss since the previous evaluation, and metrics of every evaluation.
        stopped_early: whether training ended because patience was exhausted.
        averaged: number of snapshots whose average was kept; 0 where the parameters of one step were. The
            entry of an average in `history` has the key `averaged` and the last step's number.
    """

    steps: int
    best_step: int
    history: list[dict[str, float]]
    stopped_early: bool
    averaged: int = 0

    @property
    def best(self) -> dict[str, float]:
        """The evaluation of the parameters that were kept."""
        kept = (self.best_step, self.averaged)
        return next(entry for entry in self.history if (entry["step"], entry.get("averaged", 0)) == kept)


def kept_metric(keep: str) -> str:
    """The metric of a trainer's setting `keep`, which names a metric or is `last`."""
    return "step" if keep == "last" else keep


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """A context in which a model computes in the loop's precision, for measurements outside of the loop."""
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


class Loop(Generic[ItemT]):
    """Trains a module's trainable parameters on items and keeps those of the best evaluation.

    The items of one optimizer step are a window: `batch_size` times `accumulate` items a process, fewer in
    the last window of an epoch. The gradient is that of the weighted mean loss over the window.

    Args:
        module: `module(batch)` returns an object with `.loss`, a sum over the batch's weights.
        items: the training examples; those of weight 0 are left out.
        collate: makes a batch of items, on the module's device.
        evaluate: measures held-out metrics of the module; every process calls it.
        metric: name of the metric to maximise; `-name` minimises it. `step` keeps the last evaluation.
        settings: length, learning rate and batch size.
        folder: folder of the checkpoints; an unfinished run there is resumed.
        identity: settings of the run; checkpoints of another run, or of another number of processes, are
            refused.
        no_decay: names of the parameters without weight decay.
        prepare: called with this process's items of a window and the number of optimizer steps done, before
            the window's first step. Reinforcement learning samples its texts here.
        repeats: optimizer steps on each window.

    Raises:
        TrainingError: there are no items, or none has a weight above 0.
        ValueError: the last evaluation is kept, and `patience` would end training before it.
    """

    def __init__(
        self,
        module: nn.Module,
        items: Sequence[ItemT],
        collate: Callable[[Sequence[ItemT]], Any],
        evaluate: Callable[[], Metrics],
        metric: str,
        settings: LoopSettings,
        folder: Path,
        identity: Mapping[str, Any],
        no_decay: Sequence[str] = (),
        prepare: Callable[[Sequence[ItemT], int], None] | None = None,
        repeats: int = 1,
    ) -> None:
        # A window of such items alone would have no mean loss.
        items = [item for item in items if item.weight > 0]
        if not items:
            raise TrainingError("there is nothing to train on: no item has a step that is used")
        if metric == "step" and settings.patience:
            raise ValueError(f"patience: expected 0 with the metric step, got {settings.patience}")
        self.module = module
        self.items = items
        self.collate = collate
        self.evaluate = evaluate
        self.metric = metric
        self.prepare = prepare
        self.repeats = repeats
        self.settings = settings = settings.with_default_lr()
        self.folder = folder
        stay_on_device(module)
        # Accelerate keeps the precision of a process's first Accelerator; each of our loops has its own.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=settings.precision,
            log_with=list(settings.log_with) or None,
            # The checkpoints are removed at the end.
            project_dir=str(logs_folder(folder)) if settings.log_with else None,
        )
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        optimizer = _optimizer(self.parameters, settings, no_decay)
        self.prepared_module, self.optimizer = self.accelerator.prepare(module, optimizer)
        window = settings.batch_size * settings.accumulate * self.accelerator.num_processes
        self.windows = [range(i, min(i + window, len(self.items))) for i in range(0, len(self.items), window)]
        self.total = settings.epochs * len(self.windows) * repeats
        self.scheduler = get_scheduler(
            settings.schedule, optimizer, round(settings.lr_warmup_fraction * self.total), self.total
        )
        self._evaluation_steps = {
            repeats
            * (epoch * len(self.windows) + max(1, (i + 1) * len(self.windows) // settings.evaluations))
            for epoch in range(settings.epochs)
            for i in range(settings.evaluations)
        }
        self._snapshot_steps = settings.snapshot_steps(self.total)
        # Windows, schedule and the place in the data depend on the number of processes.
        shared = {"num_processes": self.accelerator.num_processes, "loop": asdict(settings)}
        run = json.loads(json.dumps({**identity, **shared}, default=str))
        self.checkpoints = Checkpoints(
            folder, run, self.parameters, self.optimizer, self.scheduler, self.accelerator.scaler
        )
        self.progress = Progress()

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def run(self) -> TrainingResult:
        """Train from the last checkpoint, if there is one, to the end; the best parameters are then set.

        Raises:
            TrainingError: the loss or its gradient is not finite, or the checkpoints belong to another run.
            WriteError: a checkpoint could not be written.
        """
        torch.manual_seed(self.settings.seed)
        if self.settings.log_with:
            self.accelerator.init_trackers("s2t-eval")
        resumed = self.checkpoints.resume()
        with without_cudnn_attention():
            if resumed is None:
                self._evaluate([])
            else:
                self.progress = resumed
            stopped_early = self._train()
            self._evaluate_average()
        self.checkpoints.load_best(self.progress)
        if self.settings.log_with:
            self.accelerator.end_training()
        progress = self.progress
        return TrainingResult(
            progress.step, progress.best_step, progress.history, stopped_early, progress.averaged
        )

    def _train(self) -> bool:
        """Take the remaining steps; returns whether training stopped early."""
        if any("averaged" in entry for entry in self.progress.history):  # training had ended before
            return self.step < self.total
        losses: list[float] = []  # since the last evaluation
        is_hidden = not self.accelerator.is_main_process
        with tqdm(total=self.total, initial=self.step, desc="Training", disable=is_hidden) as bar:
            while self.step < self.total:
                if self._is_out_of_patience():
                    return True
                losses.append(self._optimize())
                self.progress.step += 1
                if self.step in self._snapshot_steps and self.accelerator.is_main_process:
                    self.checkpoints.save_snapshot(self.step)
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.4g}", lr=f"{self.scheduler.get_last_lr()[0]:.2g}")
                if self.step in self._evaluation_steps:
                    self._evaluate(losses)
                    losses = []
        return False

    # ---------------------------------------------------------------- one step

    def _optimize(self) -> float:
        """Take one optimizer step over one window of items; returns the window's mean loss."""
        window = self._window()
        total_weight = sum(item.weight for item in window)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        # Every process must take part in the window's last backward pass, if need be with weight 0.
        own, scale = (window[rank::world], 1.0) if rank < len(window) else (window[:1], 0.0)
        # Checkpoints are made after the last step of a window, so a resumed run prepares its window anew.
        if self.prepare is not None and self.step % self.repeats == 0:
            self.prepare(own, self.step)
        size = self.settings.batch_size
        micro_batches = [own[i : i + size] for i in range(0, len(own), size)]
        self.prepared_module.train()
        loss_sum = 0.0
        for i, items in enumerate(micro_batches):
            is_last = i == len(micro_batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.prepared_module):
                # Gradients are averaged over processes; the factor `world` makes that a sum.
                loss = self.prepared_module(self.collate(items)).loss * (scale * world / total_weight)
                self._require_finite(loss, items, "the loss")
                self.accelerator.backward(loss)
            loss_sum += float(loss.detach()) / world
        norm = self.accelerator.clip_grad_norm_(self.parameters.values(), self.settings.clip)
        if self.settings.precision != "fp16":  # whose scaler skips the step instead
            self._require_finite(norm, own, "the gradient's norm")
        lr = self.scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        mean = float(self.accelerator.reduce(torch.tensor(loss_sum, device=self.accelerator.device), "sum"))
        if self.settings.log_with:
            self.accelerator.log({"loss": mean, "lr": lr}, step=self.step + 1)
        return mean

    def _window(self) -> list[ItemT]:
        """The items of the current step; their order is shuffled in every epoch."""
        epoch, number = divmod(self.step // self.repeats, len(self.windows))
        generator = torch.Generator().manual_seed(self.settings.seed + epoch)
        order = torch.randperm(len(self.items), generator=generator)
        return [self.items[int(order[i])] for i in self.windows[number]]

    def _require_finite(self, value: Tensor, items: Sequence[ItemT], what: str) -> None:
        """Raise `TrainingError` that names the items of a number that is not finite."""
        if not bool(torch.isfinite(value)):
            sources = "; ".join(item.source for item in items)
            raise TrainingError(
                f"{what} is {float(value.detach())} at step {self.step} on {sources}: the row may "
                "be damaged, or the learning rate too high; the last checkpoint is kept in "
                f"{self.folder}"
            )

    # ---------------------------------------------------------------- evaluation

    def _evaluate_average(self) -> None:
        """Evaluate the average of the snapshots as one more candidate for the best parameters."""
        self.accelerator.wait_for_everyone()
        is_evaluated = any("averaged" in entry for entry in self.progress.history)  # before an interruption
        snapshots = [] if is_evaluated else self.checkpoints.snapshots(self._snapshot_steps)
        if len(snapshots) < 2:  # patience ended the run before them
            return
        average = average_parameters(snapshots)
        self.checkpoints.set_parameters(average.parameters)
        self._evaluate([], {"averaged": len(snapshots), "rank_kept": average.kept})

    def _evaluate(self, losses: Sequence[float], average: Mapping[str, float] | None = None) -> None:
        """Evaluate and write a checkpoint.

        Args:
            losses: training losses since the last evaluation; empty before training.
            average: where averaged parameters are evaluated, the number of snapshots (`averaged`) and the
                share of their product that the rank keeps (`rank_kept`).
        """
        self.prepared_module.eval()
        with self.accelerator.autocast():
            metrics = self.evaluate()
        train_loss = {"train_loss": sum(losses) / len(losses)} if losses else {}
        entry = {"step": self.step, **train_loss, **(average or {}), **metrics}
        history = self.progress.history
        history.append(entry)
        if self.settings.log_with:
            self.accelerator.log({f"held_out/{k}": v for k, v in metrics.items()}, step=self.step)
        is_best = self._score(entry) >= max(map(self._score, history))
        if is_best:
            self.progress.best_step = self.step
            self.progress.averaged = int(entry.get("averaged", 0))
        if self.accelerator.is_main_process:
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in entry.items()))
            self.checkpoints.save(self.progress, is_best)
        self.accelerator.wait_for_everyone()

    def _score(self, metrics: Mapping[str, float]) -> float:
        """The metric that is maximised; NaN is worse than any number."""
        value = metrics[self.metric.removeprefix("-")]
        if math.isnan(value):
            return -math.inf
        return -value if self.metric.startswith("-") else value

    def _is_out_of_patience(self) -> bool:
        if not self.settings.patience:
            return False
        steps = [entry["step"] for entry in self.progress.history]
        return len(steps) - 1 - steps.index(self.progress.best_step) >= self.settings.patience


def _optimizer(
    parameters: Mapping[str, nn.Parameter], settings: LoopSettings, no_decay: Sequence[str]
) -> torch.optim.AdamW:
    """AdamW with weight decay on all parameters but those named in `no_decay`."""
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in parameters.items() if name not in no_decay]},
        {"params": [p for name, p in parameters.items() if name in no_decay], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.peak_lr,
        weight_decay=settings.weight_decay,
    )
