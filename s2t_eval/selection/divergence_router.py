"""R2R's router: does the student's token change the meaning of the text? (arXiv 2505.21600, section 3)

Its inputs are three values of one step of the student: its last hidden state, the input embedding of its most
likely token, and its largest logits. The KL router of `router.py` has other inputs and other labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2t_eval.selection.residual_mlp import ResidualMlp
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.selection.step import StepView


class DivergenceRouter(nn.Module):
    """Log-odds that a token of the student diverges.

    concat(hidden state, embedding, Linear(num_logits -> hidden) of the logits) -> two linear layers ->
    residual blocks -> LayerNorm -> one number. Inputs are taken as they are, without normalisation.

    Args:
        hidden_size: width of the student.
        size: size of the network; `num_logits` may not exceed the student's text vocabulary.
    """

    def __init__(self, hidden_size: int, size: RouterSize) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.size = size
        self.logits_in = nn.Linear(size.num_logits, hidden_size)
        self.mix = nn.Sequential(nn.Linear(3 * hidden_size, size.width), nn.Linear(size.width, size.width))
        self.blocks = nn.Sequential(*(ResidualMlp(size.width, size.dropout) for _ in range(size.blocks)))
        self.odds = nn.Sequential(nn.LayerNorm(size.width), nn.Linear(size.width, 1))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, hidden: Tensor, embedding: Tensor, top_logits: Tensor) -> Tensor:
        """Log-odds float32 [steps].

        Args:
            hidden: the student's last hidden states, [steps, hidden].
            embedding: its input embedding of its most likely token, [steps, hidden].
            top_logits: its largest logits, largest first, [steps, num_logits].
        """
        logits = self.logits_in(top_logits.float())
        mixed = self.mix(torch.cat([hidden.float(), embedding.float(), logits], dim=-1))
        odds: Tensor = self.odds(self.blocks(mixed))[..., 0]
        return odds


@dataclass(frozen=True)
class DivergenceTrigger:
    """The router's probability that the student's most likely token diverges; needs no teacher.

    A sampled token is no input: the router was trained on the most likely one.

    Args:
        router: the network, in evaluation mode, on the student's device.
        embed: the student's input embedding, ids [n] -> [n, hidden].
        source: hash of the router's folder, which distinguishes its thresholds from those of another router.
    """

    router: DivergenceRouter
    embed: Callable[[Tensor], Tensor]
    source: str = ""
    name: str = "r2r"
    needs_teacher: bool = False

    def divergence(self, step: StepView) -> Tensor:
        """Probabilities float32 [batch]."""
        assert step.hidden is not None
        top = step.top_of(self.router.size.num_logits)
        device = next(self.router.parameters()).device  # the student's layers may be on several
        embedding = self.embed(top.indices[:, 0].to(device))
        return self.router(step.hidden.to(device), embedding, top.values.to(device)).sigmoid()
