"""Edits of the matrix product in torch."""
