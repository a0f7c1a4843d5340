"""HumanEval for chat models: programs are extracted from answers and run in the sandbox."""

from s2t_eval.evaluation.humaneval.assemble import assemble
from s2t_eval.evaluation.humaneval.score import HumanEvalScorer, build_program, score_solutions

__all__ = ["HumanEvalScorer", "assemble", "build_program", "score_solutions"]
