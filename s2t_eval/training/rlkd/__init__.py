"""RLKD (arXiv 2505.16142): reinforcement learning with a reward for the structure of a teacher's solutions."""
