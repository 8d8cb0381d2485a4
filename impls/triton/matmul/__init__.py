"""Matrix multiplication kernels in Triton."""
