"""Attention references."""
