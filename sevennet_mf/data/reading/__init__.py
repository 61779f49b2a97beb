"""From files to labelled structures of known fidelity, one at a time."""
