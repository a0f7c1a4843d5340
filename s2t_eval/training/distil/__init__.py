"""Distillation: training of a student on a teacher's distribution or texts, with one file for each method."""
