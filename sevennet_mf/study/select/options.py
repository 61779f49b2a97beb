"""Kept for scripts that were written for it: see `sevennet_mf.select.options`."""

from sevennet_mf.select.options import Options

__all__ = ['Options']
