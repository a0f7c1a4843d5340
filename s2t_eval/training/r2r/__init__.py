"""Labels and training of R2R's router (arXiv 2505.21600)."""
