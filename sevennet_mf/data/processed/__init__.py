"""Processed structures on disk: written once, opened without reading them all."""
