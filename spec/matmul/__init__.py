"""Matmul specs."""
