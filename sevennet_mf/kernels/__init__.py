"""The fused convolution for CPUs: one C++ source, its library and its operators.

`convolution.cpp` is compiled twice: into a library beside this file when the package
is installed, and into the plugin for LAMMPS. Nothing here depends on SevenNet.
"""
