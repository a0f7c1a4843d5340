"""Group-relative policy optimisation (GRPO, arXiv 2402.03300): advantages and losses as functions of tensors.

trl's `GRPOTrainer` (1.16.0) is not used. Through its experimental `rollout_func` it trains on texts of our
engine, but its checkpoints are those of transformers' `Trainer`: `optimizer.pt`, `scheduler.pt`,
`rng_state.pth` and `training_args.bin` are pickles, and a run that saves the model alone cannot be resumed.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-4
"""Added to the standard deviation that rewards are divided by."""


def advantages(rewards: Tensor, scale: bool) -> Tensor:
    """Rewards relative to those of their group, float32 [groups, size].

    A group whose rewards are equal has advantages of exactly 0. Rounding must not leave any other value:
    Adam would enlarge the smallest gradient to a full step.

    Args:
        rewards: float32 [groups, size], size >= 2.
        scale: whether to divide by the group's standard deviation.
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    if scale:
        centred = centred / (rewards.std(-1, keepdim=True) + EPSILON)
    is_equal = rewards.amax(-1, keepdim=True) == rewards.amin(-1, keepdim=True)
    return torch.where(is_equal, torch.zeros_like(centred), centred)


def clipped_losses(log_probs: Tensor, old_log_probs: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """-min(ratio * A, clip(ratio, 1 - clip_range, 1 + clip_range) * A) of every token, [tokens].

    Args:
        log_probs: log-probabilities of the sampled tokens under the model that is trained, [tokens].
        old_log_probs: those under the model that the tokens were sampled from, [tokens].
        advantage: advantage of each token's text, [tokens].
        clip_range: GRPO's epsilon.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def kl_estimates(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Estimate of KL(trained || reference) from one sampled token each, never negative, nats, [tokens].

    exp(d) - d - 1 with d = log p_reference - log p_trained (Schulman's k3).
    """
    difference = reference_log_probs - log_probs
    return torch.exp(difference) - difference - 1
