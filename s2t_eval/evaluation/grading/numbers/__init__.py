"""Parsing of written numbers: numerals, number words and arithmetic expressions."""
