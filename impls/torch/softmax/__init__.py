"""Softmax implementations in torch."""
