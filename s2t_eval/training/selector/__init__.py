"""Training of a selector: packed batches, losses, the model, its routers and its decoding defaults."""
