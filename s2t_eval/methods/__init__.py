"""Decoding methods that are not selection."""
