"""Edits of softmax in torch."""
