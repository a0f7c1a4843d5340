"""Learning to select: labels, the selector, its router, distillation. Speaks token ids, not lm_eval."""
