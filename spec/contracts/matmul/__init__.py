"""The matmul contract: bound, clauses, input families and mutants."""
