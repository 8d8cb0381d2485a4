"""The softmax contract: bound, spread, clauses, input families, costs and mutants."""
