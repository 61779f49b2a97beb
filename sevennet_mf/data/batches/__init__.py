"""Which structures each batch holds, on each rank, in every epoch."""
