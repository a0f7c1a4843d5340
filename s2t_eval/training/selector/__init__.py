"""Training of a selector: packing, losses, model, run."""
