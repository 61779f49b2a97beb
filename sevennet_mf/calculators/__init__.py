"""Calculators for ASE: one fidelity, a mixture, delta-learning, all at once."""
