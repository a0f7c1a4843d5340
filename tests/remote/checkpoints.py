"""Checkpoints for servers, made from the embedded student: with reserved rows, and with a merged adapter."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2t_eval import cli
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_info import read_info, write_info
from tests.harness_helpers import STUDENT

SELECTOR = "embedded/selector"
SPARE_ROWS = 3


def padded_student(folder: Path) -> Path:
    """The embedded student with unused output rows, as many large models have them."""
    model = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT), dtype=torch.float32)
    bins = read_info(embedded_path(SELECTOR)).bins
    torch.manual_seed(0)
    model.resize_token_embeddings(model.config.vocab_size + bins + SPARE_ROWS)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_path(STUDENT)).save_pretrained(folder)
    return folder


def look_ahead_selector(folder: Path, student: Path) -> Path:
    """The embedded selector's adapter with a readout of random rows, in the paper's form."""
    shutil.copytree(embedded_path(SELECTOR), folder)
    info = read_info(folder)
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    rows = torch.randn(info.bins, info.hidden_size, generator=torch.Generator().manual_seed(1)) / 4
    save_file({"rows": rows}, folder / "readout.safetensors")
    write_info(folder, replace(info, form="lookahead", base=model_fingerprint(model)))
    return folder


def export(student: str | Path, out: Path, *options: str) -> Path:
    """`s2t-eval export` in float32 on the CPU."""
    loading = ["--pretrained", str(student), "--device", "cpu", "--dtype", "float32"]
    cli.main(["export", *loading, *options, "--out", str(out)])
    return out
