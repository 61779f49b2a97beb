"""From a checkpoint to files that plain SevenNet and LAMMPS can run."""
