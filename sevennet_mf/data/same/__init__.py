"""Whether two descriptions are the same structure, and which of many are."""
