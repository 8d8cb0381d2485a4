"""Cache specs."""
