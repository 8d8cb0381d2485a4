"""Matmul implementations in torch."""
