"""A YAML for files that somebody has: `sevennet-mf init`."""
