"""Which method gives the most for its labels, and which labels to compute next."""
