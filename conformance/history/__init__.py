"""The record over commits: measurements in files that are never changed."""
