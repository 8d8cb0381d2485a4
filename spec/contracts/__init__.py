"""What specs of one family share: error bounds, clauses, input families."""
