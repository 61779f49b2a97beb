"""Kept for scripts that were written for it: see `sevennet_mf.analysis.mixing`."""

from sevennet_mf.analysis.mixing import Mixing, mixing_energy, r_squared

__all__ = ['Mixing', 'mixing_energy', 'r_squared']
