"""Simulations of approximate attention."""
