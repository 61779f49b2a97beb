"""Kept for scripts that were written for it: see `sevennet_mf.select.choose`."""

from sevennet_mf.select.choose import select

__all__ = ['select']
