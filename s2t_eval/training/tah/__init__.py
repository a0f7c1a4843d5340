"""Training of a Think-at-Hard student: labels of hard tokens, deeper passes (stage 1), decider (stage 2)."""
