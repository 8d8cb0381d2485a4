"""Cache references."""
