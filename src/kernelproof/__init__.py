"""An executable specification and conformance suite for attention and matrix multiplication.

The public interface is small: decorate a kernel with :func:`implementation`, then run
``kernelproof test my_kernels.py``.
"""

from __future__ import annotations

from kernelproof.impls.registration import implementation

__all__ = ["__version__", "implementation"]
__version__ = "0.1.0"
