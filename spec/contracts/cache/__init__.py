"""The cache contract: bound, clauses, input families and mutants."""
