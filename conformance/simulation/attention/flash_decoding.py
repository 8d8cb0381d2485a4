"""Flash-Decoding with every rounding in the open."""

from __future__ import annotations

from kernelproof.conformance.simulation.attention.scaled_dot_product import attention_family

FAMILY = attention_family()
"""Attention of one query, whose keys may be split."""
