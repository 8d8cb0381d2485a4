"""Edits of caches in Triton."""
