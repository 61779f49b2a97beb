"""Kept for older scripts: see `sevennet_mf.model.load`."""

from sevennet_mf.model.load import UNNAMED, LoadedModel, load_model

__all__ = ['UNNAMED', 'LoadedModel', 'load_model']
