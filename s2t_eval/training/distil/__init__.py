"""Distillation: training of a student on a teacher's distribution or texts."""
