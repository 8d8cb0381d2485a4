"""Simulations of attention."""
