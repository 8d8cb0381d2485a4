"""Matmul references."""
