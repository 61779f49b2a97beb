"""Labels of the target inferred from a lower fidelity by a two-body difference."""
