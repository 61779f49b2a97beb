"""Labelled structures: read, matched, referenced, cached and drawn."""
