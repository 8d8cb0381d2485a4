"""The attention contract: bound, clauses, input families and mutants."""
