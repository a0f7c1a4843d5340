"""Benchmarks, graders, the HumanEval programs and their sandbox."""
