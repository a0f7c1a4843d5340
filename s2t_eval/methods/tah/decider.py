"""The decider: after a pass, whether a token gets a further pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2t_eval.methods.tah.settings import DeciderSettings
from s2t_eval.selection.residual_mlp import ResidualMlp
from s2t_eval.selection.top_tokens import top_values


class Decider(nn.Module):
    """Log-odds to continue, from hidden states of a few layers and the largest accumulated logits.

    As in the paper, with one difference: each layer's state is normalised (without parameters), because
    the middle layers of some students have entries in the thousands.

    Args:
        hidden_size: width of the student.
        num_read: number of layers whose outputs are its input.
        top_n: number of accumulated logits in its input.
        settings: size of its own layers.
    """

    def __init__(self, hidden_size: int, num_read: int, top_n: int, settings: DeciderSettings) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_read = num_read
        self.logits_in = nn.Linear(top_n, hidden_size)
        self.mix = nn.Linear((num_read + 1) * hidden_size, settings.width)
        self.blocks = nn.Sequential(
            *(ResidualMlp(settings.width, settings.dropout) for _ in range(settings.blocks))
        )
        self.odds = nn.Linear(settings.width, 1)

    def forward(self, states: Tensor, top_logits: Tensor) -> Tensor:
        """Log-odds float32 [n].

        Args:
            states: concatenated outputs of those layers, [n, layers * hidden].
            top_logits: the largest accumulated logits, largest first, [n, top_n].
        """
        by_layer = states.float().unflatten(-1, (self.num_read, self.hidden_size))
        normal = nn.functional.layer_norm(by_layer, (self.hidden_size,)).flatten(-2)
        mixed = self.mix(torch.cat([normal, self.logits_in(top_logits.float())], dim=-1))
        odds: Tensor = self.odds(self.blocks(mixed))[..., 0]
        return odds


def vote(decider: Decider, states: Tensor, totals: Tensor, top_n: int) -> Tensor:
    """Log-odds to continue, float32 [n], from the layers' outputs and accumulated logits [n, vocab]."""
    odds: Tensor = decider(states, top_values(totals, top_n))
    return odds.float()  # autocast returns bfloat16
