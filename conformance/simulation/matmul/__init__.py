"""Simulations of matrix multiplication."""
