"""Softmax references."""
