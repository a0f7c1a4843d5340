"""A plain checkpoint of a student with its adapter folded into the weights, for any engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.artifacts.manifest import write_manifest
from s2t_eval.embedded import resolve_model
from s2t_eval.methods.distilled import SETTINGS as DISTILLED
from s2t_eval.methods.distilled import DistilInfo, distilled_card, read_distilled
from s2t_eval.methods.selector_folder import Selector
from s2t_eval.models.loading import adapter_file, load_adapter
from s2t_eval.models.lora import adapter_layers
from s2t_eval.models.vocabulary import vocabulary_hash

MERGED = "s2t_merged.json"
"""Beside the weights: what was merged."""


def export_merged_selector(model: PreTrainedModel, tokenizer: Any, selector: Selector, out: Path) -> None:
    """Write the adapted student of a selector, without its readout.

    Args:
        model: the student. It is changed in place, so it must not be used afterwards.
        tokenizer: is saved with the checkpoint.
        selector: its adapter is merged with the factor that was measured for proposer `tuned`.
        out: folder to write.
    """
    info = selector.info
    peft = selector.attach(model, scale=info.adapter_scale)
    what = {
        "selector": selector.hash,
        "base": info.base,
        "form": info.form,
        "adapter_scale": info.adapter_scale,
    }
    _write(peft, tokenizer, out, what, None)


def export_merged_adapter(model: PreTrainedModel, tokenizer: Any, name: str, base: str, out: Path) -> None:
    """Write a student with a peft adapter; that of `s2t-eval distil` becomes a distilled checkpoint.

    Args:
        model: the student. It is changed in place, so it must not be used afterwards.
        tokenizer: is saved with the checkpoint.
        name: folder of the adapter, or a hub repository.
        base: fingerprint of the student, which a distilled adapter has to fit.
        out: folder to write.

    Raises:
        ModelLoadError: an adapter that is missing, unreadable or of another kind.
        DistilledError: an adapter that was distilled from another student.
    """
    path = resolve_model(name)
    info = None
    if adapter_file(path, DISTILLED) is not None:
        info = read_distilled("peft", path)
        info.require_base(name, base, vocabulary_hash(tokenizer))
    peft = load_adapter("peft", name, model)
    _write(peft, tokenizer, out, {"peft": name, "base": base}, info)


def merge_adapter(peft: PeftModel) -> PreTrainedModel:
    """The student with its adapter folded into its weights.

    A student whose head is its embeddings has two matrices afterwards where the adapter changes one of them:
    folded into the matrix that they share, the change would be one of the other as well.

    Args:
        peft: the adapted student; it must not be used afterwards.
    """
    base: Any = peft.get_base_model()
    ends = base.get_input_embeddings(), base.get_output_embeddings()
    embeddings, head = map(_own_module, ends)
    if embeddings.weight is head.weight and any(end in adapter_layers(base) for end in ends):
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        for config in (base.config, base.config.get_text_config(decoder=True)):
            config.tie_word_embeddings = False
    merged: Any = peft.merge_and_unload(safe_merge=True)
    return merged


def _own_module(end: Any) -> Any:
    """The student's own module in peft's wrapper; the module itself where there is none."""
    while end in adapter_layers(end):
        end = getattr(end, "base_layer", None) or end.original_module
    return end


def _write(
    peft: PeftModel, tokenizer: Any, out: Path, what: Mapping[str, Any], distilled: DistilInfo | None
) -> None:
    merged: Any = merge_adapter(peft)
    with atomic_path(out) as partial:
        partial.mkdir()
        merged.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_text(partial / MERGED, json.dumps(what, indent=2) + "\n")
        if distilled is not None:
            info = replace(distilled, kind="checkpoint", result=model_fingerprint(merged))
            write_manifest(partial / DISTILLED, info)
            write_text(partial / "README.md", distilled_card(info))
