"""Readers of single file formats; `files.py` says which file needs which."""
