"""The student's probabilities of tokens in existing texts: one plain forward pass for each text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s2t_eval.models.attention_kernels import without_cudnn_attention
from s2t_eval.models.loading import load_model


class Rescorer:
    """Probabilities over the whole vocabulary by transformers' forward pass; traces do not contain them.

    Args:
        name: hub name, folder or `embedded/...`.
        device: of the model; None takes a GPU where there is one.
    """

    def __init__(self, name: str, device: str | None = "cpu") -> None:
        self.model, _ = load_model("pretrained", name, torch.float32, device, False)
        self.device = self.model.device

    @torch.inference_mode()
    def __call__(
        self, prompt: Sequence[int], output: Sequence[int], wanted: Sequence[tuple[int, int]]
    ) -> list[float]:
        """p_S(token | prompt, output[:t]) of each (t, token)."""
        last = max(t for t, _ in wanted)
        ids = torch.tensor([[*prompt, *output[:last]]], device=self.device)
        at = torch.tensor([len(prompt) + t - 1 for t, _ in wanted], device=self.device)
        with without_cudnn_attention():
            logits = self.model(ids, logits_to_keep=at).logits[0].float()
        tokens = torch.tensor([token for _, token in wanted], device=self.device)
        chosen = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        return [float(p) for p in chosen.exp()]
