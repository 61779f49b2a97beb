"""Which method gives the most for its labels: `sevennet-mf study`."""
