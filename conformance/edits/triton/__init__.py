"""Edits of the built-in implementations in Triton."""
