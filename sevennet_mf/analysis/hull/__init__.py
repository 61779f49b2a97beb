"""Energies above hull, of given energies and as `sevennet-mf hull`."""

from sevennet_mf.analysis.hull.diagram import Phase, energies_above_hull

__all__ = ['Phase', 'energies_above_hull']
