"""Kept for older scripts: see `sevennet_mf.evaluate.evaluation`."""

from sevennet_mf.evaluate.evaluation import evaluate

__all__ = ['evaluate']
