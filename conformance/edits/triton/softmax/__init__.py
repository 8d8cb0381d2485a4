"""Edits of softmax in Triton."""
