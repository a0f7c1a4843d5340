"""Selection at a step: triggers, candidates, scores, selectors, thresholds."""
