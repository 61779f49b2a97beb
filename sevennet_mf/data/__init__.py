"""Labelled structures: read, referenced, cached, drawn and audited."""
