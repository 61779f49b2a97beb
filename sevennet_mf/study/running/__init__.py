"""Doing the runs of a study, on this machine or as jobs on a cluster."""
