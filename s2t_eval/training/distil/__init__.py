"""Distillation: a student that carries in its own weights what a teacher knows, one file a method."""
