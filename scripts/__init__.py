"""Programs that make what the repository ships: the embedded pair, its artifacts, the baselines."""
