"""The contract of self-attention without parameters: tokens are queries, keys and values."""
