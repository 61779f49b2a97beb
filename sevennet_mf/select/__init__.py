"""Which low-fidelity structures to compute next at the high fidelity."""
