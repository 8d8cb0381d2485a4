"""Cache implementations in torch."""
