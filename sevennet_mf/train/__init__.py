"""Training on several fidelities: loss, metrics, loop, checkpoints."""
