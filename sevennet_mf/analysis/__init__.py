"""What models are for: mixing energies, hulls and relaxed structures."""
