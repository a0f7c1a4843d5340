"""Think-at-Hard: a student that thinks again about hard tokens (arXiv 2511.08577)."""
