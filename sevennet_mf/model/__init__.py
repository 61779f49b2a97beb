"""Layers with fidelity-owned weights, and how they get into SevenNet's model."""
