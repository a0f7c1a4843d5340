"""HumanEval for chat models: answers become programs, programs run in the sandbox."""

from s2t_eval.evaluation.humaneval.assemble import assemble
from s2t_eval.evaluation.humaneval.score import HumanEvalScorer, program_of, score_solutions

__all__ = ["HumanEvalScorer", "assemble", "program_of", "score_solutions"]
