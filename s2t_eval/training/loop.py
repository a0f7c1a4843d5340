"""The one training loop: accelerate for processes and precision, checkpoints of safetensors and JSON.

Not transformers' `Trainer`: its checkpoints pickle the optimizer, and it saves the whole model where only
an adapter is trained. Selector, distillation and looped models run in this loop.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_scheduler

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.manifest import require_same_run
from s2t_eval.training.settings import LoopSettings as LoopSettings

STATE = "state.json"


class TrainingError(ValueError):
    """Training that cannot go on; the last good checkpoint stays."""


class TrainingItem(Protocol):
    """What the loop needs to know of an example."""

    @property
    def weight(self) -> float:
        """Its share in the mean of a window, such as its number of groups or tokens."""
        ...

    @property
    def source(self) -> str:
        """Where it comes from, for messages."""
        ...


ItemT = TypeVar("ItemT", bound=TrainingItem)


Metrics = dict[str, float]


@dataclass(frozen=True)
class Trained:
    """How training ended.

    Args:
        steps: optimizer steps done.
        best_step: the step whose parameters were kept, 0 for the untrained ones.
        history: of every evaluation, the step, the training loss since the last one, and its metrics.
        stopped_early: whether patience ran out.
    """

    steps: int
    best_step: int
    history: list[dict[str, float]]
    stopped_early: bool

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the parameters that were kept."""
        return next(entry for entry in self.history if entry["step"] == self.best_step)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The loop's precision for what is measured outside of it."""
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


class Loop(Generic[ItemT]):
    """Trains a module's trainable parameters on items and keeps the best of its evaluations.

    Args:
        module: `module(batch)` returns an object with `.loss`, a sum over the batch's weights.
        items: the examples.
        collate: items -> batch, on the module's device.
        evaluate: the module's held-out metrics; every process calls it.
        better: the metric to maximise; `-name` minimises.
        settings: how long and how fast.
        folder: where checkpoints go; an unfinished run there is resumed.
        identity: what the run is made of; a checkpoint of another run is refused.
        no_decay: parameters (by name) that weight decay leaves alone.
    """

    def __init__(
        self,
        module: nn.Module,
        items: Sequence[ItemT],
        collate: Callable[[Sequence[ItemT]], Any],
        evaluate: Callable[[], Metrics],
        better: str,
        settings: LoopSettings,
        folder: Path,
        identity: Mapping[str, Any],
        no_decay: Sequence[str] = (),
    ) -> None:
        if not items:
            raise TrainingError("there is nothing to train on: no item has a step that is used")
        self.items = list(items)
        self.collate = collate
        self.evaluate = evaluate
        self.better = better
        self.settings = settings = settings.with_default_lr()
        self.folder = folder
        self.identity = json.loads(json.dumps({**identity, "loop": asdict(settings)}, default=str))
        # accelerate holds a process to its first loop's precision; ours have each their own.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=settings.precision,
            log_with=list(settings.log_with) or None,
            project_dir=str(folder) if settings.log_with else None,
        )
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        groups: list[dict[str, Any]] = [
            {"params": [p for n, p in self.parameters.items() if n not in no_decay]},
            {"params": [p for n, p in self.parameters.items() if n in no_decay], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.peak_lr,
            weight_decay=settings.weight_decay,
        )
        self.plain = module
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        window = settings.batch_size * settings.accumulate * self.accelerator.num_processes
        self.windows = [range(i, min(i + window, len(self.items))) for i in range(0, len(self.items), window)]
        self.total = settings.epochs * len(self.windows)
        self.scheduler = get_scheduler(
            settings.schedule, optimizer, round(settings.lr_warmup_fraction * self.total), self.total
        )
        self._evaluates_at = {
            epoch * len(self.windows) + max(1, (i + 1) * len(self.windows) // settings.evaluations)
            for epoch in range(settings.epochs)
            for i in range(settings.evaluations)
        }
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best_step = 0

    def run(self) -> Trained:
        """Train to the end (or from the last checkpoint on); the module then holds the best parameters.

        Raises:
            TrainingError: a loss that is not a number, or checkpoints of another run.
            WriteError: a checkpoint that could not be written.
        """
        torch.manual_seed(self.settings.seed)
        if self.settings.log_with:
            self.accelerator.init_trackers("s2t-eval")
        if not self._resume():
            self._evaluate(float("nan"))
        stopped = False
        bar = tqdm(
            total=self.total,
            initial=self.step,
            desc="Training",
            disable=not self.accelerator.is_main_process,
        )
        since: list[float] = []
        with bar:
            while self.step < self.total and not (stopped := self._is_out_of_patience()):
                since.append(self._optimize())
                self.step += 1
                bar.update()
                bar.set_postfix(loss=f"{since[-1]:.4g}", lr=f"{self.scheduler.get_last_lr()[0]:.2g}")
                if self.step in self._evaluates_at:
                    self._evaluate(sum(since) / len(since))
                    since = []
        self._load_parameters(self.folder / "best")
        if self.settings.log_with:
            self.accelerator.end_training()
        return Trained(self.step, self.best_step, self.history, stopped)

    # ---------------------------------------------------------------- one step

    def _optimize(self) -> float:
        """One optimizer step over one window of items; its mean loss."""
        epoch, number = divmod(self.step, len(self.windows))
        order = torch.randperm(
            len(self.items), generator=torch.Generator().manual_seed(self.settings.seed + epoch)
        )
        window = [self.items[int(order[i])] for i in self.windows[number]]
        total = sum(item.weight for item in window)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        # Every process takes part in the window's last backward pass, if need be with weight 0.
        mine, scale = (window[rank::world], 1.0) if rank < len(window) else (window[:1], 0.0)
        size = self.settings.batch_size
        parts = [mine[i : i + size] for i in range(0, len(mine), size)]
        self.module.train()
        loss_sum = 0.0
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                # The processes' gradients are averaged: times `world` makes that a sum.
                loss = self.module(self.collate(part)).loss * (scale * world / total)
                self._require_number(loss, part)
                self.accelerator.backward(loss)
            loss_sum += float(loss.detach()) / world
        self.accelerator.clip_grad_norm_(self.parameters.values(), self.settings.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        mean = float(self.accelerator.reduce(torch.tensor(loss_sum, device=self.accelerator.device), "sum"))
        if self.settings.log_with:
            self.accelerator.log({"loss": mean, "lr": self.scheduler.get_last_lr()[0]}, step=self.step)
        return mean

    def _require_number(self, loss: Tensor, part: Sequence[ItemT]) -> None:
        if not bool(torch.isfinite(loss)):
            sources = "; ".join(item.source for item in part)
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.step} on {sources}: the row may "
                "be damaged, or the learning rate too high; the last checkpoint is kept in "
                f"{self.folder}"
            )

    # ---------------------------------------------------------------- evaluation and checkpoints

    def _evaluate(self, train_loss: float) -> None:
        self.module.eval()
        with self.accelerator.autocast():
            metrics = self.evaluate()
        known = {} if math.isnan(train_loss) else {"train_loss": train_loss}
        self.history.append({"step": self.step, **known, **metrics})
        if self.settings.log_with:
            self.accelerator.log({f"held_out/{k}": v for k, v in metrics.items()}, step=self.step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in self.history[-1].items())
        if self.accelerator.is_main_process:
            tqdm.write(shown)
        is_best = self._score(self.history[-1]) >= max(map(self._score, self.history))
        if is_best:
            self.best_step = self.step
        if self.accelerator.is_main_process:
            self._save(is_best)
        self.accelerator.wait_for_everyone()

    def _score(self, metrics: Mapping[str, float]) -> float:
        value = metrics[self.better.removeprefix("-")]
        if math.isnan(value):
            return -math.inf
        return -value if self.better.startswith("-") else value

    def _is_out_of_patience(self) -> bool:
        if not self.settings.patience:
            return False
        steps = [entry["step"] for entry in self.history]
        return len(steps) - 1 - steps.index(self.best_step) >= self.settings.patience

    def _save(self, is_best: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach().cpu().contiguous() for name, p in self.parameters.items()}
        if is_best:
            with atomic_path(self.folder / "best") as partial:
                partial.mkdir()
                save_file(weights, partial / "parameters.safetensors")
        state = {
            "step": self.step,
            "best_step": self.best_step,
            "history": self.history,
            "identity": self.identity,
            "lr": self.scheduler.state_dict()["_last_lr"],
        }
        with atomic_path(self.folder / f"checkpoint-{self.step:06d}") as partial:
            partial.mkdir()
            save_file(weights, partial / "parameters.safetensors")
            save_file(self._optimizer_tensors(), partial / "optimizer.safetensors")
            write_text(partial / STATE, json.dumps(state, indent=2))
        for older in self._checkpoints()[:-1]:
            shutil.rmtree(older)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        tensors = {"random": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{name}|{key}"] = value.detach().cpu().contiguous()
        return tensors

    def _checkpoints(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("checkpoint-*") if path.suffix == "")

    def _resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        checkpoints = self._checkpoints()
        if not checkpoints:
            return False
        folder = checkpoints[-1]
        state = json.loads((folder / STATE).read_text())
        require_same_run(str(self.folder), "checkpoints", state["identity"], self.identity, TrainingError)
        self._load_parameters(folder)
        tensors = load_file(folder / "optimizer.safetensors")
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_cuda"])
        for name, parameter in self.parameters.items():
            found = {k.split("|")[1]: v for k, v in tensors.items() if k.split("|")[0] == name}
            for key, value in found.items():
                device = "cpu" if key == "step" else parameter.device
                self.optimizer.state[parameter][key] = value.to(device)
        self.step, self.best_step = state["step"], state["best_step"]
        self.history = state["history"]
        self.scheduler.last_epoch = self.step
        self.scheduler._last_lr = state["lr"]
        for group, lr in zip(self.optimizer.param_groups, state["lr"], strict=True):
            group["lr"] = lr
        return True

    @torch.no_grad()
    def _load_parameters(self, folder: Path) -> None:
        weights = load_file(folder / "parameters.safetensors")
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])
