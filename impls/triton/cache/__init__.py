"""Cache implementations in Triton."""
