"""Training that continues from a model: new fidelities, and old ones retained."""
