"""The gate: a base and a head measured side by side, and what of the difference is real."""
