"""Export of a selector in the paper's form: adapter merged, readout in unused rows of the model's LM head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.methods.selector_folder import RESERVED, Selector
from s2t_eval.methods.selector_info import SelectorError
from s2t_eval.models.lm_head import LMHead
from s2t_eval.training.merge import merge_adapter


@torch.no_grad()
def export_to_reserved_rows(
    model: Any, tokenizer: Any, selector: Selector, text_vocab: int, out: Path
) -> list[int]:
    """Write a full checkpoint whose unused LM head rows hold the readout.

    An engine that gives log-probabilities of token ids can then score a candidate: it appends the candidate
    and renormalises the probabilities of the reserved rows at the next position. The ids of the rows, the
    values of the bins and the score form are written beside the weights. The rows of text tokens are
    unchanged.

    Args:
        model: the student. It is changed in place, so it must not be used afterwards.
        tokenizer: is saved with the checkpoint.
        selector: adapter and readout.
        text_vocab: index of the first unused row of the head.
        out: folder to write.

    Returns:
        The ids of the reserved rows.

    Raises:
        SelectorError: the form has no readout, or the head has too few unused rows.
    """
    info = selector.info
    if info.form == "direct":
        raise SelectorError("--to_reserved_rows: a selector of form `direct` has no readout to write")
    merged: Any = merge_adapter(selector.attach(model, scale=info.adapter_scale))
    head = LMHead(merged).module
    unused = head.weight.shape[0] - text_vocab
    if unused < info.bins:
        raise SelectorError(
            f"--to_reserved_rows: the readout has {info.bins} rows and the model's head only {unused} unused "
            "ones, too few for the paper's form; use the selector folder as it is"
        )
    ids = list(range(text_vocab, text_vocab + info.bins))
    head.weight[ids] = selector.readout.to(head.weight)
    if getattr(head, "bias", None) is not None:
        head.bias[ids] = 0.0
    description = {
        "reserved_ids": ids,
        "values": torch.linspace(0, 1, info.bins).tolist(),
        "form": info.form,
        "score_as": info.score_as,
        "selector": selector.hash,
        "base": info.base,
    }
    with atomic_path(out) as partial:
        partial.mkdir()
        merged.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_text(partial / RESERVED, json.dumps(description, indent=2) + "\n")
    return ids
