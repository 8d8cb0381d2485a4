"""Edits of caches in torch."""
