"""The contract of additive attention: bound, clauses, input families, costs and mutants."""
