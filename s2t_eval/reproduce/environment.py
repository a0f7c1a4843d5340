"""What a step is made with: the code, the packages and the machine."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.software import installed_version
from s2t_eval.reproduce.identity import package_identity

PACKAGES = (
    *("torch", "transformers", "lm-eval", "peft", "accelerate", "datasets", "tokenizers", "safetensors"),
    *("numpy", "scipy", "pandas", "math-verify", "sympy"),
)


def environment() -> dict[str, Any]:
    """The present one, by the names that the lock has for its parts."""
    return {
        "package": package_identity(),
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The system, the processor, the threads that torch takes, and the GPUs that a process sees."""
    import torch

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def processor() -> str:
    """The processor's name, where the system provides it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        return platform.processor()
    return names[0] if names else platform.processor()
