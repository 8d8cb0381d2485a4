"""Worksheets: one module per sheet."""
