"""The steps of a training: loss, metrics, optimiser, epochs, resumption."""
