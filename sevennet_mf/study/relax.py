"""Kept for scripts that were written for it: see `sevennet_mf.analysis.relax`."""

from sevennet_mf.analysis.relax import relax

__all__ = ['relax']
