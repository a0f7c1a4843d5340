"""Extraction of answers from model responses."""
