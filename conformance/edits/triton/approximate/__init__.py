"""Approximate attention."""
