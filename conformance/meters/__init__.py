"""Meters: what is counted while an implementation runs."""
