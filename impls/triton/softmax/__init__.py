"""Softmax kernels in Triton."""
