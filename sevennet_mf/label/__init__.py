"""Structures get labels from a calculator: `sevennet-mf label`."""
