"""Kept for scripts that were written for it: see `sevennet_mf.select`."""
