"""Triton's interpreter, corrected and metered: kernels run on the CPU as NumPy programs.

Imported by a worker whose environment has TRITON_INTERPRET=1, never by the judge.
"""

ARITHMETIC_VERSION = "1"
"""Results of different versions are not compared."""
