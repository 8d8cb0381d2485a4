"""What paged attention guarantees: its cases, clauses, costs and planted bugs."""
