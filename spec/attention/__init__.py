"""Attention specs."""
