"""Kept for scripts that were written for it: see `sevennet_mf.model.load`."""

from sevennet_mf.model.load import UNNAMED, LoadedModel, load_model

__all__ = ['UNNAMED', 'LoadedModel', 'load_model']
