"""Where and why selection helps: each function returns a figure with its numbers."""
