"""Selection at a step: triggers, candidates, scores, selectors and thresholds."""
