"""Edits of attention in Triton."""
