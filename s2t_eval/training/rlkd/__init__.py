"""RLKD (arXiv 2505.16142): reinforcement learning with a reward for following a teacher's steps."""
