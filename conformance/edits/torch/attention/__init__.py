"""Edits of attention in torch."""
