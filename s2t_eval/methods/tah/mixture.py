"""The input of a further pass: a mixture of the most likely tokens' embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def top_mixture(embedding: nn.Module, total: Tensor, top_n: int) -> Tensor:
    """The next pass's input: sum of p * E[token] over the `top_n` most likely, [n, hidden].

    Args:
        embedding: the model's input embedding, including its scaling if it has one.
        total: accumulated logits, [n, vocab]; p is their softmax over the whole vocabulary.
        top_n: at most the vocabulary.
    """
    top = total.topk(min(top_n, total.shape[-1]), dim=-1)
    probs = (top.values - total.logsumexp(-1, keepdim=True)).exp()
    rows: Tensor = embedding(top.indices)
    return torch.einsum("nk,nkh->nh", probs.to(rows.dtype), rows)
