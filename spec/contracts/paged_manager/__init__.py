"""The contract of a paged key/value cache: its program, clauses, costs and mutants."""
