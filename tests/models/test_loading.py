"""Checkpoints and adapters that are not whole: refused, not filled with random numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_folder import load_selector
from s2t_eval.methods.selector_info import SelectorError, read_info
from s2t_eval.model_wrappers.distil import Distil
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal
from s2t_eval.model_wrappers.tah import ThinkAtHard
from s2t_eval.models.loading import ModelLoadError, attach_adapter, load_model, require_finite
from tests.harness_helpers import STUDENT, TEACHER, tiny_folder, tokenizer

Tensors = dict[str, Tensor]
Change = Callable[[Tensors, str], None]


def changed(folder: Path, key: str, change: Change, name: str = "model.safetensors") -> Path:
    """The folder with one of its tensors changed."""
    tensors = load_file(folder / name)
    change(tensors, next(found for found in sorted(tensors) if key in found))
    save_file(tensors, folder / name, {"format": "pt"})
    return folder


def without(tensors: Tensors, key: str) -> None:
    del tensors[key]


def with_value(value: float) -> Change:
    def change(tensors: Tensors, key: str) -> None:
        tensors[key] = tensors[key].clone()
        tensors[key].flatten()[-1] = value

    return change


def load(name: Path | str) -> Greedy:
    return Greedy(str(name), device="cpu")


# ---------------------------------------------------------------- missing tensors


@pytest.mark.parametrize("key", ["embed_tokens", "layers.1.mlp.up_proj", "model.norm", "lm_head"])
def test_a_student_without_a_tensor_is_refused(key: str, tmp_path: Path) -> None:
    """It was once evaluated with random numbers in its place, to 0 % and exit code 0."""
    folder = changed(tiny_folder(tmp_path / "model"), key, without)
    with pytest.raises(ModelLoadError, match=rf"pretrained=.*lack 1 of its tensors \(.*{key}"):
        load(folder)


def test_a_teacher_without_tensors_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    for key in ("layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"):
        changed(folder, key, without)
    message = r"teacher=.*lack 2 of its tensors \(model\.layers\.0\..*, \.\.\.\)"
    with pytest.raises(ModelLoadError, match=message):
        SelectToThink(STUDENT, teacher=str(folder), trigger="always", device="cpu")


def test_a_shard_without_a_tensor_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    load(folder)
    shard = sorted(folder.glob("model-*.safetensors"))[-1]
    changed(folder, "", without, shard.name)
    with pytest.raises(ModelLoadError, match=r"pretrained=.*lack 1 of its tensors"):
        load(folder)


def gpt2(folder: Path) -> Path:
    """Its head is always tied, and its old checkpoints hold buffers that are made anew."""
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer()), **size)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("make", [gpt2, lambda folder: tiny_folder(folder, tie_word_embeddings=True)])
def test_tied_heads_are_not_missing(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    assert not any("lm_head" in key for key in load_file(folder / "model.safetensors"))
    head: Any = load(folder).model.get_output_embeddings()
    embeddings: Any = load(folder).model.get_input_embeddings()
    torch.testing.assert_close(head.weight, embeddings.weight)
    model, _ = load_model("teacher", str(folder), "auto", "cpu", False)
    assert isinstance(model, PreTrainedModel)


def test_a_tied_pair_of_which_both_are_missing_is_refused(tmp_path: Path) -> None:
    folder = changed(tiny_folder(tmp_path / "model", tie_word_embeddings=True), "embed_tokens", without)
    with pytest.raises(ModelLoadError, match="pretrained="):
        load(folder)


# ---------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    """A teacher of NaN once gave a finished label set with `kl_threshold` NaN."""
    folder = changed(tiny_folder(tmp_path / "model"), "layers.1.mlp.up_proj", with_value(value))
    with pytest.raises(ModelLoadError, match=r"pretrained=.*layers\.1\.mlp\.up_proj\.weight holds numbers"):
        load(folder)
    with pytest.raises(ModelLoadError, match="teacher="):
        load_model("teacher", str(folder), "auto", "cpu", False)


def test_finite_weights_of_every_dtype_pass() -> None:
    model = nn.Linear(3, 2)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        require_finite("pretrained", "x", model.to(dtype))
    model = nn.Linear(3, 2).half()
    with torch.no_grad():
        model.weight.fill_(torch.finfo(torch.float16).max)  # large, and a number
    require_finite("pretrained", "x", model)


def test_a_model_object_is_looked_at_too(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ModelLoadError, match=r"lm_head\.weight holds numbers"):
        Greedy(model, tokenizer=tokenizer(), device="cpu")


# ---------------------------------------------------------------- adapters


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded_path(f"embedded/{name}"), tmp_path / name))


ADAPTERS: dict[str, Callable[[str], Any]] = {
    "selector": lambda folder: PPSLocal(STUDENT, selector=folder, device="cpu"),
    "distilled": lambda folder: Distil(STUDENT, peft=folder, device="cpu"),
    "tah": lambda folder: ThinkAtHard(STUDENT, tah=folder, device="cpu"),
}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("change", "message"), [(without, "lack 1 of its"), (with_value(float("nan")), "NaN")]
)
def test_an_adapter_that_is_not_whole_is_refused(
    name: str, change: Change, message: str, tmp_path: Path
) -> None:
    folder = changed(copied(name, tmp_path), "lora_B", change, "adapter_model.safetensors")
    with pytest.raises(ValueError, match=message):
        ADAPTERS[name](str(folder))


@pytest.mark.parametrize("file", ["router", "readout"])
def test_a_selector_s_other_weights_are_finite(file: str, tmp_path: Path) -> None:
    folder = copied("selector", tmp_path)
    changed(folder, "", with_value(float("inf")), f"{file}.safetensors")
    info = read_info(folder)
    with pytest.raises(SelectorError, match="holds numbers that are infinite or none"):
        load_selector(folder, info.base, info.vocabulary, info.hidden_size)


def test_a_whole_adapter_is_what_peft_makes_of_it() -> None:
    path = str(embedded_path("embedded/distilled"))
    models = [AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT)) for _ in range(2)]
    ours, theirs = attach_adapter("peft", models[0], path), PeftModel.from_pretrained(models[1], path)
    for (name, one), (_, two) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(one, two), name
    assert load_model("teacher", TEACHER, "auto", "cpu", False)[0].num_parameters() > 0
