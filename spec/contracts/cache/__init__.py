"""The contract of key/value caches: clauses and mutants; bound and families are attention's."""
