"""Training in several processes: which one writes the result, and what runs in one process alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn

from s2t_eval.training.checkpoints import TrainingError


def all_processes() -> PartialState:
    """The processes that train together, one or several.

    `PartialState` alone does not read ACCELERATE_USE_CPU: made before the first `Accelerator`, it takes a
    process on CPUs for the only one.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def stay_on_device(module: nn.Module) -> None:
    """Make the device of a module that of the next `Accelerator`, which moves what it trains to its own.

    By default that is the first GPU, whatever device the student was loaded on (`--device`). Several
    processes have the devices that they were given.
    """
    processes = all_processes()
    if processes.num_processes == 1:
        processes.device = next(module.parameters()).device


def write_result(write: Callable[[], None], work: Path) -> None:
    """Write a trained folder on the main process and remove the checkpoints; the others wait for it.

    Args:
        write: writes the folder.
        work: folder of the checkpoints.
    """
    processes = all_processes()
    if processes.is_main_process:
        write()
        shutil.rmtree(work)
    processes.wait_for_everyone()


def require_one_process(command: str) -> None:
    """Raise `TrainingError` in one of several processes.

    Args:
        command: a command that keeps its models and batches on one device and writes its folder itself.
    """
    count = all_processes().num_processes
    if count > 1:
        raise TrainingError(
            f"{command}: expected one process, got {count}; it trains on one device, so run it without "
            "torchrun and accelerate"
        )
