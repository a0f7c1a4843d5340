"""The learned router: predicts from the student's own forward whether a teacher would diverge at a step.

The paper distils its KL trigger into a lightweight head (section 4); this one reads the student's last
hidden state and a few of its probabilities, and needs no teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_LOG_PROBS = 8
NUM_SCALARS = NUM_LOG_PROBS + 2
FLOOR = -20.0
"""Lower bound of the log-probabilities that it reads: lower values carry no information, and the mean of
minus infinity is not finite."""


class Router(nn.Module):
    """A small network that computes the log-odds that a step is among the most divergent ones.

    Args:
        hidden_size: width of the student.
        width: of the network's layers.
        dropout: in training.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, hidden_size: int, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.width = width
        inputs = hidden_size + NUM_SCALARS
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.layers = nn.Sequential(
            nn.Linear(inputs, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, 1),
        )

    def fit_scale(self, features: Tensor) -> None:
        """Standardise inputs with the mean and deviation of these features [steps, inputs].

        One step has no deviation; inputs are then centred only.
        """
        std = features.std(0) if len(features) > 1 else torch.ones_like(features[0])
        self.mean.copy_(features.mean(0))
        self.std.copy_(std.clamp(min=1e-3))

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds float32 [steps] from features [steps, inputs], see `step_features`."""
        scaled = ((features - self.mean) / self.std).clamp(-8, 8)
        odds: Tensor = self.layers(scaled)[..., 0]
        return odds


def step_features(hidden: Tensor, top_log_probs: Tensor, entropy: Tensor) -> Tensor:
    """The inputs of the router, float32 [steps, hidden + 10].

    Args:
        hidden: the student's last hidden states, [steps, hidden].
        top_log_probs: of its most likely tokens, at least two, [steps, m]; the first eight are read.
        entropy: nats, [steps].
    """
    log_probs = top_log_probs[:, :NUM_LOG_PROBS].float().clamp(min=FLOOR)
    missing = NUM_LOG_PROBS - log_probs.shape[1]
    log_probs = nn.functional.pad(log_probs, (0, missing), value=FLOOR)
    gap = log_probs[:, :1].exp() - log_probs[:, 1:2].exp()
    return torch.cat([hidden.float(), log_probs, gap, entropy.float()[:, None]], dim=-1)
