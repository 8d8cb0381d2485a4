"""Algorithms with every rounding in the open: right ones, and planted rounding bugs."""
