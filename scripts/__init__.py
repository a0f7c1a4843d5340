"""Scripts that create what the repository contains: the embedded pair, its artifacts, the baselines."""
