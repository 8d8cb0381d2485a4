"""Edits of the caches in torch."""
