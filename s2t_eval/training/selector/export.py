"""The paper's form of a selector: adapter merged, readout in the model's own unused output rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.methods.selector_folder import Selector, SelectorError
from s2t_eval.models.lm_head import LMHead

RESERVED = "s2t_reserved_rows.json"


@torch.no_grad()
def export_to_reserved_rows(
    model: Any, tokenizer: Any, selector: Selector, text_vocab: int, out: Path
) -> list[int]:
    """Write a full checkpoint whose unused output rows are the readout.

    An engine that reads log-probabilities of token ids can then score a candidate from the rows'
    renormalised probabilities behind it. The rows' ids, the bins' values and the score form are written
    beside the weights; no text token is touched.

    Args:
        model: the student; it is changed, so hand over one that is not used further.
        tokenizer: saved with it.
        selector: adapter and readout.
        text_vocab: rows of the head from here on are unused.
        out: folder to write.

    Returns:
        The ids of the reserved rows.

    Raises:
        SelectorError: the form has no readout, or the head has too few unused rows.
    """
    info = selector.info
    if info.form == "direct":
        raise SelectorError("--to-reserved-rows: a selector of form `direct` has no readout to write")
    merged: Any = selector.attach(model).merge_and_unload()
    head = LMHead(merged).module
    unused = head.weight.shape[0] - text_vocab
    if unused < info.bins:
        raise SelectorError(
            f"--to-reserved-rows: the readout has {info.bins} rows and the model's head {unused} unused "
            "ones; this model has no room for the paper's form, use the selector folder as it is"
        )
    ids = list(range(text_vocab, text_vocab + info.bins))
    head.weight[ids] = selector.readout.to(head.weight)
    if getattr(head, "bias", None) is not None:
        head.bias[ids] = 0.0
    described = {
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
        write_text(partial / RESERVED, json.dumps(described, indent=2) + "\n")
    return ids
