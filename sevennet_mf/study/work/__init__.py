"""The runs of a study at work: on this machine or as jobs of a cluster."""
