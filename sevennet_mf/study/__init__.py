"""Which method makes the best use of its labels: `sevennet-mf study`."""
