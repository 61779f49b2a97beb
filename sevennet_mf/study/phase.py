"""Kept for scripts that were written for it: see `sevennet_mf.analysis.hull`."""

from sevennet_mf.analysis.hull import Phase, energies_above_hull

__all__ = ['Phase', 'energies_above_hull']
