"""Training of a Think-at-Hard student."""
