"""What a machine has and lacks: each check gives one line that says what works, or why it does not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.software import installed_version
from s2t_eval.models.product import Product

VERSIONS = {"torch": "torch", "transformers": "transformers", "lm_eval": "lm-eval", "peft": "peft"}
"""Module -> its distribution. Without one of them nothing runs."""
EXTRAS = {
    "gguf": ("gguf",),
    "quantization": ("bitsandbytes",),
    "every-eval-ever": ("every-eval-ever",),
    "docs": ("mkdocs", "mkdocs-material"),
    "test": ("pytest", "playwright"),
}
"""Extra -> distributions that it installs."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Status(Enum):
    """What a check came to."""

    OK = "ok"
    NOTE = "note"
    """something optional is missing, or switched off"""
    FAILED = "failed"
    """nothing works, or not what the user chose"""


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Args:
        name: of what was looked at.
        status: whether it works.
        message: one line for people.
        values: the same for programs.
    """

    name: str
    status: Status
    message: str
    values: dict[str, Any] = field(default_factory=dict)


def examine() -> list[Check]:
    """All checks, in the order in which they are shown; one that breaks is a failed one."""
    checks = [check_version("s2t_eval", "s2t-eval"), check_python()]
    checks += [check_version(module, name) for module, name in VERSIONS.items()]
    for name, check in CHECKS.items():
        try:
            checks.append(check())
        except Exception as error:  # whatever is broken, the command reports it
            checks.append(Check(name, Status.FAILED, _one_line(error)))
    return checks


def check_python() -> Check:
    """The interpreter."""
    python = platform.python_version()
    where = f"{platform.system()} {platform.machine()}"
    return Check(
        "python", Status.OK, f"{python} on {where}", {"version": python, "executable": sys.executable}
    )


def check_version(module: str, distribution: str) -> Check:
    """Whether a package that everything needs can be imported, and which version it is."""
    try:
        imported = importlib.import_module(module)
        number = getattr(imported, "__version__", None) or version(distribution)
    except Exception as error:  # a broken binary raises OSError, RuntimeError and others
        message = f"cannot be imported ({_one_line(error)}); pip install {distribution}"
        return Check(distribution, Status.FAILED, message, {"version": None})
    return Check(distribution, Status.OK, str(number), {"version": str(number)})


def check_device() -> Check:
    """The devices that models can run on; the first one is used by default."""
    import torch

    from s2t_eval.evaluation.sandbox.pool import usable_cores

    devices: list[dict[str, Any]] = [
        {
            "device": f"cuda:{i}",
            "name": torch.cuda.get_device_name(i),
            "memory_bytes": torch.cuda.get_device_properties(i).total_memory,
        }
        for i in range(torch.cuda.device_count())
    ]
    cores = usable_cores()
    devices.append({"device": "cpu", "cores": cores, "threads": torch.get_num_threads()})
    shown = [f"{d['device']} {d['name']}, {d['memory_bytes'] / 2**30:.0f} GiB" for d in devices[:-1]]
    shown.append(f"cpu, {cores} cores, {torch.get_num_threads()} threads")
    return Check("device", Status.OK, "; ".join(shown), {"devices": devices})


def check_dtype() -> Check:
    """Which of float32 and bfloat16 multiplies faster on the default device, measured."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    milliseconds = {}
    for name in ("float32", "bfloat16"):
        milliseconds[name] = 1000 * Product(rows=32).seconds(device, getattr(torch, name))
    faster = min(milliseconds, key=lambda name: milliseconds[name])
    ratio = max(milliseconds.values()) / min(milliseconds.values())
    shown = ", ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items())
    message = f"{faster} is {ratio:.1f} times as fast on {device} ({shown}): --model_args dtype={faster}"
    values = {"faster": faster, "device": device, "milliseconds": milliseconds}
    return Check("dtype", Status.OK, message, values)


def check_sandbox() -> Check:
    """Whether generated programs can be run, which only HumanEval needs."""
    from s2t_eval.evaluation.sandbox.isolation import SandboxUnavailableError, find_isolation

    try:
        isolation = find_isolation()
    except (SandboxUnavailableError, ValueError) as error:
        message = f"HumanEval cannot be scored: {_one_line(error)}"
        return Check("sandbox", Status.NOTE, message, {"isolation": None})
    if not isolation.command:
        message = "none (S2T_SANDBOX=none): generated programs run with your rights"
        return Check("sandbox", Status.NOTE, message, {"isolation": isolation.name})
    return Check("sandbox", Status.OK, f"{isolation.name} confines a program", {"isolation": isolation.name})


def check_grader() -> Check:
    """Whether answers of mathematics can be compared."""
    from s2t_eval.evaluation.grading.grader import Grader, GraderBrokenError

    grader = Grader()
    try:
        grader.check()
    except GraderBrokenError as error:
        return Check("grader", Status.FAILED, _one_line(error))
    finally:
        grader.close()
    return Check("grader", Status.OK, f"math-verify {version('math-verify')} compares known answers rightly")


def check_hook() -> Check:
    """Whether `lm_eval` knows our backends by itself."""
    from s2t_eval.model_wrappers.registration import unknown_models

    switched_off = os.environ.get("S2T_EVAL_NO_HOOK", "0") not in ("", "0")
    is_present = any(type(finder).__name__ == "S2tEvalHook" for finder in sys.meta_path)
    unknown = unknown_models()
    values = {"active": is_present and not unknown, "unknown_models": unknown}
    if is_present and not unknown:
        return Check("hook", Status.OK, "active: lm_eval knows our models and tasks", values)
    if is_present:
        message = f"lm_eval does not know {', '.join(unknown)}; install s2t-eval again, or use `s2t-eval run`"
        return Check("hook", Status.FAILED, message, values)
    why = "switched off by S2T_EVAL_NO_HOOK" if switched_off else "not installed (s2t_eval.pth)"
    return Check("hook", Status.NOTE, f"{why}: use `s2t-eval run …` in place of `lm_eval …`", values)


def check_extras() -> Check:
    """Optional parts."""
    present = {extra: None not in map(installed_version, names) for extra, names in EXTRAS.items()}
    browser = next((name for name in BROWSERS if shutil.which(name)), None)
    shown = [f"{name} {'yes' if here else 'no'}" for name, here in present.items()]
    shown.append(f"chromium {'yes' if browser else 'no'} (tests of the report page)")
    status = Status.OK if all(present.values()) and browser else Status.NOTE
    return Check("extras", status, ", ".join(shown), {**present, "chromium": browser})


def check_data() -> Check:
    """The folder of benchmark data."""
    from s2t_eval.evaluation.benchmark_data import SOURCES

    folder = os.environ.get("S2T_DATA")
    if folder is None:
        message = "S2T_DATA is not set: benchmarks come from the Hugging Face Hub"
        return Check("data", Status.OK, message, {"folder": None, "present": []})
    place = Path(folder).expanduser()
    if not place.is_dir():
        message = f"S2T_DATA={folder}: expected a folder of benchmark data, got none; unset it, or make it"
        return Check("data", Status.FAILED, message, {"folder": folder, "present": []})
    present = [source.folder for source in SOURCES if (place / source.folder).is_dir()]
    shown = ", ".join(present) or "no benchmark"
    status = Status.OK if present else Status.NOTE
    values = {"folder": folder, "present": present}
    return Check("data", status, f"S2T_DATA={folder} holds {shown}", values)


CHECKS: dict[str, Callable[[], Check]] = {
    "device": check_device,
    "dtype": check_dtype,
    "sandbox": check_sandbox,
    "grader": check_grader,
    "hook": check_hook,
    "extras": check_extras,
    "data": check_data,
}


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
