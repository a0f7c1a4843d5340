"""Benchmarks: data, grading of answers, HumanEval programs and the sandbox."""
