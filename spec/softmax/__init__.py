"""Softmax specs."""
