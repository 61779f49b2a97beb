"""Units that labels are often in by mistake, and which of them a factor tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from sevennet_mf import units
from sevennet_mf.data.reading import convention

BOHR: Final[float] = units.length('bohr')
# what a number written in the unit is, over what it is in eV (eV/Å, eV/Å^3)
ENERGY_UNITS: Final[dict[str, float]] = {
    name: 1 / units.energy(name)
    for name in ('Hartree', 'Rydberg', 'kcal/mol', 'kJ/mol', 'meV')
}
FORCE_UNITS: Final[dict[str, float]] = {
    name: 1 / units.force(name)
    for name in (
        'Hartree/Bohr',
        'Rydberg/Bohr',
        'eV/Bohr',
        'Hartree/Å',
        'kcal/mol/Å',
        'kJ/mol/Å',
        'meV/Å',
    )
}
STRESS_UNITS: Final[dict[str, float]] = {
    name: 1 / units.stress(name)
    for name in ('GPa', 'kbar', 'Hartree/Bohr^3', 'Rydberg/Bohr^3')
}
# other codes' orders of shear components, and how to have ASE's yz xz xy of them
ORDERS: Final[dict[str, list[int]]] = {
    'xy, yz, zx (VASP)': list(convention.ORDERS['vasp']),
    'xy, xz, yz (LAMMPS)': list(convention.ORDERS['lammps']),
}
NEAR: Final[float] = 0.25  # of a factor, in its logarithm: methods differ, too
ORDINARY: Final[float] = 0.7  # the same for 1: factors of 0.5 to 2 need no reason
EXACT: Final[float] = 0.02  # of total energies: those of a file, or all-electron
TOTAL: Final[str] = 'Energies must be total energies in eV.'


def match(factor: float, units: Mapping[str, float], near: float = NEAR) -> str:
    """Return 'Hartree or kcal/mol' for the units whose factor this may be."""
    if factor <= 0.0:
        return ''
    found = {u: abs(np.log(factor / f)) for u, f in units.items()}
    close = sorted((d, u) for u, d in found.items() if d < near)
    return ' or '.join(u for _, u in close)
