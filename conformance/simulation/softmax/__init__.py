"""Simulations of softmax."""
