"""The output head of a causal language model, with its text vocabulary and logit soft cap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from s2t_eval.models.cpu_linear import (
    Packed,
    fast_products,
    is_transposed,
    transposed_product,
    worthwhile,
)

BLOCK = 64
"""Tokens whose logits are first compared with one another."""


class Best(NamedTuple):
    """The most likely token of each row."""

    values: Tensor
    """its logit, float32 [n]"""
    ids: Tensor
    """[n]"""


class LMHead:
    """Logits of a model's text vocabulary from hidden states.

    The head is looked up in the model at each call, because an adapter may wrap it later.

    Args:
        model: a causal model of transformers.
        text_vocab: rows of the head that are text; the rows above (padding, reserved rows) are never
            proposed. None takes the head's size.
    """

    def __init__(self, model: Any, text_vocab: int | None = None) -> None:
        self._model = model
        self.packed: Mapping[nn.Linear, Packed] = {}
        """Copies of weights for products of few rows, which whoever decodes keeps up to date."""
        config = model.config.get_text_config(decoder=True)
        self._soft_cap: float | None = getattr(config, "final_logit_softcapping", None)
        self.vocab = int(self.module.weight.shape[0])
        self.text_vocab = self.vocab if text_vocab is None else min(text_vocab, self.vocab)

    @property
    def width(self) -> int:
        """Size of its input, the hidden states."""
        return int(self.module.weight.shape[1])

    @property
    def module(self) -> Any:
        """The output embedding itself."""
        return self._model.get_output_embeddings()

    @property
    def worthwhile(self) -> list[nn.Linear]:
        """The head, if products of few rows have a faster form."""
        return worthwhile(self.module)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the text vocabulary, float32 [..., text_vocab], from hidden states [..., hidden]."""
        return self.capped(self.module(hidden)[..., : self.text_vocab].float())

    def logits_at(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Logits of chosen ids only, float32 [n, m], for hidden [n, hidden] and ids [n, m]."""
        head = self.module
        if not _has_plain_rows(head):
            logits = self.logits(hidden)
            return logits.gather(-1, ids.to(logits.device))
        ids = ids.to(head.weight.device)  # a head may be on another GPU than the tokens
        weight = head.weight[ids]
        logits = torch.einsum("nmh,nh->nm", weight, hidden.to(weight)).float()
        if head.bias is not None:
            logits = logits + head.bias[ids].float()
        return self.capped(logits)

    def fast_logits(self, hidden: Tensor) -> Tensor:
        """As `logits` for [n, hidden] on the head's device, in the fastest form on a CPU (inference only)."""
        head = self.module
        with fast_products(self.worthwhile, len(hidden), self.packed):
            return self.logits(_on_device(head, hidden))

    def best(self, hidden: Tensor) -> Best:
        """The largest logit of each row and its token, the smaller id of equal ones, for [n, hidden].

        They are those of `fast_logits`, without a copy of all logits in another type or order.
        """
        head = self.module
        if self._soft_cap is not None:  # it makes logits equal that were not
            return Best(*self.fast_logits(hidden).max(-1))
        hidden = _on_device(head, hidden)
        rows, linears = len(hidden), self.worthwhile
        # The linears in an adapter's wrapper are not the head itself: their product lacks the adapter's part.
        is_plain = linears == [head]
        if is_plain and is_transposed(head, rows, self.packed):
            return column_maxima(transposed_product(head, hidden)[: self.text_vocab])
        with fast_products(linears, rows, self.packed):
            values, ids = head(hidden)[..., : self.text_vocab].max(-1)
        return Best(values.float(), ids)

    def capped(self, logits: Tensor) -> Tensor:
        """Logits with the soft cap of Gemma 2, cap * tanh(logits / cap); unchanged for other models."""
        return logits if self._soft_cap is None else self._soft_cap * torch.tanh(logits / self._soft_cap)


def column_maxima(logits: Tensor) -> Best:
    """The largest of each column of logits float32 [vocab, n] and its row, the first of equal ones.

    A maximum that counts rows is slow along columns: only the best block of a column is searched for its row.
    """
    num_blocks = len(logits) // BLOCK
    whole, rest = logits[: num_blocks * BLOCK], logits[num_blocks * BLOCK :]
    maxima = [whole.unflatten(0, (num_blocks, BLOCK)).amax(1)] if num_blocks else []
    if len(rest):
        maxima.append(rest.amax(0, keepdim=True))
    values, blocks = torch.cat(maxima).T.contiguous().max(-1)
    rows = blocks[:, None] * BLOCK + torch.arange(BLOCK, device=logits.device)
    # The last block may be shorter: what is behind the vocabulary is replaced by its last row.
    inside = logits.gather(0, rows.clamp(max=len(logits) - 1).T)
    return Best(values, rows[:, 0] + (inside == values).int().argmax(0))


def _on_device(head: Any, hidden: Tensor) -> Tensor:
    """Hidden states on the head's device; where they are if the head is offloaded."""
    return hidden if head.weight.is_meta else hidden.to(head.weight.device)


def _has_plain_rows(head: nn.Module) -> bool:
    """Whether rows of the head's weight can be read: it is neither quantized, nor adapted, nor offloaded."""
    return (
        type(head) is nn.Linear and not head.weight.is_meta and not is_traceable_wrapper_subclass(head.weight)
    )


def input_device(model: Any) -> torch.device:
    """The device on which a model reads token ids; embeddings that are offloaded are computed there too."""
    embeddings = model.get_input_embeddings()
    hook = vars(embeddings).get("_hf_hook")  # of accelerate, which brings the weights to where it computes
    if embeddings.weight.is_meta and hook is not None:
        return torch.device(hook.execution_device)
    device: torch.device = embeddings.weight.device
    return device
