"""Checkpoints of the training loop: folders of safetensors and JSON, written completely or not at all.

Each has a name of its own, and so have the best parameters that it refers to: wherever a run is killed, the
last whole checkpoint and its best parameters are there. A folder that is replaced by another one of its name
is missing for a moment.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.manifest import require_same_run

BEST = "best"
SNAPSHOTS = "snapshots"
STATE = "state.json"
PARAMETERS = "parameters.safetensors"
OPTIMIZER = "optimizer.safetensors"


class TrainingError(ValueError):
    """Training cannot continue; the last checkpoint is kept."""


@dataclass
class Progress:
    """How far a run has come.

    Args:
        step: optimizer steps done.
        best_step: the step of the best evaluation so far, 0 for the untrained parameters.
        averaged: number of snapshots whose average is the best so far; 0 where it is no average.
        history: step, training loss since the previous evaluation, and metrics of every evaluation.
    """

    step: int = 0
    best_step: int = 0
    averaged: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def last(self) -> str:
        """The name of the last evaluation's parameters."""
        return _name(self.step, bool(self.history) and "averaged" in self.history[-1])

    @property
    def best(self) -> str:
        """The name of the best evaluation's parameters."""
        return _name(self.best_step, bool(self.averaged))


def _name(step: int, is_average: bool) -> str:
    return f"{step:06d}{'-averaged' if is_average else ''}"


class Checkpoints:
    """The last checkpoint of a run, and the parameters of its best evaluation.

    Args:
        folder: folder of the checkpoints.
        identity: settings of the run as JSON values; a checkpoint of another run is refused.
        parameters: name -> trainable parameter.
        optimizer: the optimizer of these parameters.
        scheduler: the learning-rate schedule of that optimizer.
        scaler: scales the loss (fp16); None where nothing does.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.parameters = parameters
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = scaler

    def save(self, progress: Progress, is_best: bool) -> None:
        """Write a checkpoint and remove the one before it; with `is_best` also keep these parameters."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = self._weights()
        if is_best:
            with atomic_path(self._best_folder(progress)) as partial:
                partial.mkdir()
                save_file(weights, partial / PARAMETERS)
        state = {
            "step": progress.step,
            "best_step": progress.best_step,
            "averaged": progress.averaged,
            "history": progress.history,
            "identity": self.identity,
            "lr": self.scheduler.state_dict()["_last_lr"],
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }
        with atomic_path(self.folder / f"checkpoint-{progress.last}") as partial:
            partial.mkdir()
            save_file(weights, partial / PARAMETERS)
            save_file(self._optimizer_tensors(), partial / OPTIMIZER)
            write_text(partial / STATE, json.dumps(state, indent=2))
        for older in self._folders()[:-1]:
            shutil.rmtree(older)
        if is_best:
            for other in self.folder.glob(f"{BEST}*"):
                if other != self._best_folder(progress):
                    shutil.rmtree(other)

    def resume(self) -> Progress | None:
        """Restore all that training changes from the last checkpoint, if there is one.

        That is parameters, optimizer, schedule, the loss's scale and the random state.

        Returns:
            How far the run had come; None without a checkpoint.

        Raises:
            TrainingError: the checkpoint belongs to another run.
        """
        folders = self._folders()
        if not folders:
            return None
        state = json.loads((folders[-1] / STATE).read_text())
        require_same_run(str(self.folder), "checkpoints", state["identity"], self.identity, TrainingError)
        self._load_parameters(folders[-1])
        self._load_optimizer(load_file(folders[-1] / OPTIMIZER))
        self.scheduler.last_epoch = state["step"]
        self.scheduler._last_lr = state["lr"]
        for group, lr in zip(self.optimizer.param_groups, state["lr"], strict=True):
            group["lr"] = lr
        if self.scaler is not None and state.get("scaler") is not None:  # a run on CPUs had none
            self.scaler.load_state_dict(state["scaler"])
        return Progress(state["step"], state["best_step"], state["averaged"], state["history"])

    def save_snapshot(self, step: int) -> None:
        """Keep the parameters of a step for the average at the end of the run."""
        folder = self.folder / SNAPSHOTS
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / f"{step:06d}") as partial:
            partial.mkdir()
            save_file(self._weights(), partial / PARAMETERS)

    def snapshots(self, steps: Sequence[int]) -> list[dict[str, Tensor]]:
        """The parameters kept at these steps, of those that were reached."""
        folders = [self.folder / SNAPSHOTS / f"{step:06d}" for step in steps]
        return [load_file(folder / PARAMETERS) for folder in folders if folder.is_dir()]

    @torch.no_grad()
    def set_parameters(self, weights: Mapping[str, Tensor]) -> None:
        """Set all trainable parameters."""
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def load_best(self, progress: Progress) -> None:
        """Set the parameters to those of the best evaluation."""
        folder = self._best_folder(progress)
        # A run that an earlier version began has one folder without a number.
        self._load_parameters(folder if folder.is_dir() else self.folder / BEST)

    @property
    def _device(self) -> torch.device:
        """Where the parameters are, and dropout draws its numbers."""
        return next(iter(self.parameters.values())).device

    def _best_folder(self, progress: Progress) -> Path:
        return self.folder / f"{BEST}-{progress.best}"

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("checkpoint-*") if path.suffix == "")

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        tensors = {"random": torch.get_rng_state()}
        if self._device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self._device)
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{name}|{key}"] = value.detach().cpu().contiguous()
        return tensors

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], self._device)
        for name, parameter in self.parameters.items():
            saved = {k.split("|")[1]: v for k, v in tensors.items() if k.split("|")[0] == name}
            for key, value in saved.items():
                device = "cpu" if key == "step" else parameter.device
                self.optimizer.state[parameter][key] = value.to(device)

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().cpu().contiguous() for name, p in self.parameters.items()}

    def _load_parameters(self, folder: Path) -> None:
        self.set_parameters(load_file(folder / PARAMETERS))
