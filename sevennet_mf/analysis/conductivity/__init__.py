"""Ionic conductivity from molecular dynamics: runs, trajectories, diffusion."""
