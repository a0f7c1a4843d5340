"""Equivalence of two extracted answers."""
