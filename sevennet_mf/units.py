"""Units by their usual names, as factors to eV and Å.

They are those of energies, lengths, forces and stresses in files of structures; see
the `*_unit` keys of an entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import ase.units

from sevennet_mf.errors import UserError, nearest

MOL: Final[float] = ase.units.mol
# what one of the unit is in eV
ENERGIES: Final[dict[str, float]] = {
    'eV': 1.0,
    'meV': 1e-3,
    'Hartree': ase.units.Hartree,
    'Rydberg': ase.units.Rydberg,
    'kcal/mol': ase.units.kcal / MOL,
    'kJ/mol': ase.units.kJ / MOL,
}
# in Å
LENGTHS: Final[dict[str, float]] = {
    'Å': 1.0,
    'bohr': ase.units.Bohr,
    'nm': ase.units.nm,
    'pm': 1e-2,
}
# in eV/Å^3
PRESSURES: Final[dict[str, float]] = {
    'GPa': ase.units.GPa,
    'MPa': 1e-3 * ase.units.GPa,
    'kbar': 1e3 * ase.units.bar,
    'bar': ase.units.bar,
}
# other names of these, in lower case and without spaces
ALIASES: Final[dict[str, str]] = {
    'ha': 'Hartree',
    'eh': 'Hartree',
    'ry': 'Rydberg',
    'kcal/mole': 'kcal/mol',
    'kj/mole': 'kJ/mol',
    'a': 'Å',
    'ang': 'Å',
    'angstrom': 'Å',
    'angstroms': 'Å',
    'a0': 'bohr',
    'nanometer': 'nm',
    'nanometers': 'nm',
    'kb': 'kbar',
}
PER_ATOM: Final[str] = '/atom'
CUBED: Final[re.Pattern[str]] = re.compile(r'(?:\^|\*\*)?3$|³$')


def energy(name: str) -> float:
    """Return a unit of energy in eV; that of 'eV/atom' is 1 (see `is_per_atom`).

    Raises:
        UserError: The unit is unknown.
    """
    found = _known(_plain(name).removesuffix(PER_ATOM), ENERGIES)
    if found is None:
        raise _unknown('energy', name, ENERGIES)
    return found


def is_per_atom(name: str) -> bool:
    """Whether a unit of energy is per atom."""
    return _plain(name).endswith(PER_ATOM)


def length(name: str) -> float:
    """Return a unit of length in Å.

    Raises:
        UserError: The unit is unknown.
    """
    found = _known(_plain(name), LENGTHS)
    if found is None:
        raise _unknown('length', name, LENGTHS)
    return found


def force(name: str) -> float:
    """Return a unit of force in eV/Å.

    Args:
        name: An energy per length, as in 'kcal/mol/Å'.

    Raises:
        UserError: The unit is unknown.
    """
    found = _ratio(_plain(name), 1)
    if found is None:
        examples = ['eV/Å', 'meV/Å', 'Hartree/bohr', 'Rydberg/bohr', 'kcal/mol/Å']
        raise _unknown('force', name, examples)
    return found


def stress(name: str) -> float:
    """Return a unit of stress in eV/Å^3.

    Args:
        name: A pressure, or an energy per volume, as in 'eV/Å^3'.

    Raises:
        UserError: The unit is unknown.
    """
    plain = _plain(name)
    found = _known(plain, PRESSURES)
    if found is None and CUBED.search(plain):
        found = _ratio(CUBED.sub('', plain), 3)
    if found is None:
        raise _unknown('stress', name, [*PRESSURES, 'eV/Å^3', 'Hartree/bohr^3'])
    return found


# what reads each key of an entry; a virial's `stress_unit` is one of energy
BY_KEY: Final[dict[str, Callable[[str], float]]] = {
    'energy_unit': energy,
    'length_unit': length,
    'force_unit': force,
    'stress_unit': stress,
}


def _plain(name: str) -> str:
    # the sign for angstrom (U+212B) is in lower case the letter
    return re.sub(r'\s', '', str(name)).lower().replace('ångstr', 'angstr')


def _known(plain: str, units: dict[str, float]) -> float | None:
    """The factor of a unit, None if it is not among `units`."""
    own = ALIASES.get(plain, plain).lower()
    return next((f for unit, f in units.items() if unit.lower() == own), None)


def _ratio(plain: str, power: int) -> float | None:
    """The factor of an energy over a power of a length; None for anything else."""
    above, _, below = plain.rpartition('/')
    numerator, denominator = _known(above, ENERGIES), _known(below, LENGTHS)
    if numerator is None or denominator is None:
        return None
    return numerator / denominator**power


def _unknown(
    quantity: str, name: str, known: dict[str, float] | list[str]
) -> UserError:
    hint = nearest(name, known).replace(' Did', ' (did').replace('?', '?)')
    return UserError(
        f'must be a unit of {quantity}, one of {", ".join(known)}{hint}'
    )
