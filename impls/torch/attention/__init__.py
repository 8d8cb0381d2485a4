"""Attention implementations in torch."""
