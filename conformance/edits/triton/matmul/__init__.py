"""Edits of the matrix product in Triton."""
