"""Training on several fidelities, from its configuration to its last picture."""
