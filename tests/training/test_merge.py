"""Checkpoints of `s2t-eval export --peft --merged`, loaded again beside the adapted student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from s2t_eval.embedded import embedded_path
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.models.loading import ModelLoadError
from tests.commands import exit_code
from tests.harness_helpers import STUDENT
from tests.remote.checkpoints import export

COMMIT = "a" * 40


def student() -> Any:
    return AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT), dtype=torch.float32)


def adapter(folder: Path, **options: Any) -> Path:
    """An adapter of the student with random weights, which are larger than those of a new one."""
    torch.manual_seed(0)
    peft = get_peft_model(student(), LoraConfig(r=4, task_type="CAUSAL_LM", **options))
    for parameter in peft.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    peft.save_pretrained(str(folder))
    return folder


@torch.no_grad()
def logits(model: Any) -> Tensor:
    output: Tensor = model.eval()(torch.arange(5, 25)[None]).logits
    return output


def on_the_hub(shipped: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a repository that holds one of the embedded folders."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repository = cache / "models--org--artifact"
    shutil.copytree(embedded_path(f"embedded/{shipped}"), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return "org/artifact"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of peft, on exactly these adapters
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 6]}},
    ],
    ids=["layers", "head", "embeddings", "own head", "own embeddings", "token rows"],
)
def test_an_adapter_of_head_or_embeddings_of_a_student_that_ties_them(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """The two were one matrix, and the change of one was folded into both: other texts than with `peft=`.
    With a head of its own, engines that believe `tie_word_embeddings` did not read it."""
    peft = adapter(tmp_path / "adapter", **options)
    adapted = logits(PeftModel.from_pretrained(student(), str(peft)))
    merged = AutoModelForCausalLM.from_pretrained(
        export(STUDENT, tmp_path / "merged", "--merged", "--peft", str(peft))
    )
    torch.testing.assert_close(logits(merged), adapted, atol=1e-4, rtol=1e-4)
    is_one_matrix = merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    assert merged.config.tie_word_embeddings == is_one_matrix == (options == {"target_modules": ["q_proj"]})


def test_the_card_of_a_merged_rlkd_student_names_a_checkpoint(tmp_path: Path) -> None:
    """It said `library_name: peft` and `peft=THIS` of a folder without an adapter."""
    out = export(STUDENT, tmp_path / "out", "--merged", "--peft", "embedded/rlkd")
    card = (out / "README.md").read_text()
    assert "--model_args pretrained=THIS --tasks" in card and "peft" not in card
    assert json.loads((out / "distil.json").read_text())["kind"] == "checkpoint"


def test_a_distilled_adapter_on_the_hub_is_compared_with_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a repository `distil.json` was not read: its adapter was folded into any student whose layers it
    fits, and the checkpoint was no distilled one."""
    name = on_the_hub("distilled", tmp_path / "cache", monkeypatch)
    changed = student()
    changed.model.norm.weight.data *= 2
    changed.save_pretrained(tmp_path / "student")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(embedded_path(STUDENT) / file, tmp_path / "student")
    arguments = ("--device", "cpu", "--merged", "--peft", name, "--out")
    assert exit_code("export", "--pretrained", tmp_path / "student", *arguments, tmp_path / "wrong") == 2
    assert "peft=org/artifact" in (message := capsys.readouterr().err) and "base model" in message
    assert not (tmp_path / "wrong").exists()
    assert exit_code("export", "--pretrained", STUDENT, *arguments, tmp_path / "out") == 0
    assert (tmp_path / "out" / "distil.json").is_file()


def test_an_adapter_on_the_hub_that_alone_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a folder with the adapter of Think-at-Hard's further passes was refused as `peft=`."""
    name = on_the_hub("tah", tmp_path, monkeypatch)
    with pytest.raises(ModelLoadError, match=r"^peft=org/artifact: .*`s2t-eval tah train`, whose adapter is"):
        Greedy(STUDENT, peft=name, device="cpu")
