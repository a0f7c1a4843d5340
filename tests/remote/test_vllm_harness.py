"""lm_eval's own `--model vllm` on merged checkpoints, in float32: the texts of stock `hf`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from s2t_eval.model_wrappers.registration import TASK_FOLDER
from tests.harness_helpers import STUDENT, evaluate, texts
from tests.remote.checkpoints import SELECTOR, export
from tests.remote.real_servers import ENVIRONMENT, REPOSITORY, vllm_environment

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_environment() is None, reason="no vLLM: `make vllm` builds its environment"),
]

NUM_DOCUMENTS = int(os.environ.get("S2T_VLLM_DOCUMENTS", "300"))
LOADING = "dtype=float32,max_model_len=512,enforce_eager=True"


def harness_texts(checkpoint: Path, out: Path) -> list[str]:
    """The texts of `lm_eval --model vllm` in the environment of the servers, which has no s2t-eval.

    The task's problems need this repository's modules of plain Python, and nothing else of it.
    """
    folder = vllm_environment()
    assert folder is not None
    command = [str(folder / "bin" / "python"), "-m", "lm_eval", "--model", "vllm", "--log_samples"]
    command += ["--model_args", f"pretrained={checkpoint},{LOADING}", "--batch_size", "auto"]
    command += ["--tasks", "s2t_arith", "--include_path", str(TASK_FOLDER), "--limit", str(NUM_DOCUMENTS)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, "--output_path", str(out)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [samples] = out.rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return [line["resps"][0][0] for line in sorted(lines, key=lambda line: line["doc_id"])]


@pytest.mark.parametrize(
    "options", [("--peft", "embedded/distilled"), ("--selector", SELECTOR)], ids=["distilled", "selector"]
)
def test_a_merged_checkpoint_has_the_texts_of_stock_hf(tmp_path: Path, options: tuple[str, ...]) -> None:
    merged = export(STUDENT, tmp_path / "merged", *options, "--merged")
    stock = evaluate(
        "hf", {"pretrained": str(merged), "dtype": "float32"}, limit=NUM_DOCUMENTS, batch_size=32
    )
    assert harness_texts(merged, tmp_path / "out") == texts(stock)
