"""A model's hidden states at the steps of given texts, and what its LM head makes of them in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from s2t_eval.engine import ModelRunner


def step_states(
    runner: ModelRunner, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Hidden states that predict the tokens of each output, [steps, hidden] each, from one prefill each.

    Args:
        runner: the model.
        prompts: token ids of each prompt, at least one.
        outputs: token ids of each prompt's output, at least one.
    """
    # A step is predicted by the hidden state at the token before it, so the last token is not encoded.
    texts = [[*prompt, *output[:-1]] for prompt, output in zip(prompts, outputs, strict=True)]
    states = runner.encode(texts)
    return [hidden[len(hidden) - len(output) :] for hidden, output in zip(states, outputs, strict=True)]


def by_chunks(function: Callable[..., Sequence[Tensor]], *columns: Tensor, size: int) -> tuple[Tensor, ...]:
    """The results of `function(*parts)` over chunks of steps, each concatenated.

    Logits over the vocabulary, which the function computes, exist for one chunk at a time.

    Args:
        function: maps a chunk's columns to tensors with one row a step.
        columns: tensors with one row a step, at least one of them.
        size: steps of a chunk.
    """
    chunks = zip(*(column.split(size) for column in columns), strict=True)
    parts = [function(*chunk) for chunk in chunks]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
