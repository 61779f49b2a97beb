"""How the labels of an entry are written: their units, sign and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sevennet_mf import units
from sevennet_mf.errors import UserError

UNIT_KEYS: Final[tuple[str, ...]] = (
    'energy_unit',
    'length_unit',
    'force_unit',
    'stress_unit',
    'stress_sign',
    'stress_order',
)
# keys of which an entry has one: an entry's own puts a format's out
ALTERNATIVES: Final[tuple[tuple[str, str], ...]] = (
    ('force_key', 'gradient_key'),
    ('stress_key', 'virial_key'),
)
TENSION, COMPRESSION = 'tension', 'compression'
SIGNS: Final[dict[str, float]] = {TENSION: 1.0, COMPRESSION: -1.0}
# of six numbers, those in ASE's order: xx yy zz yz xz xy
ORDERS: Final[dict[str, tuple[int, ...]]] = {
    'ase': (0, 1, 2, 3, 4, 5),
    'vasp': (0, 1, 2, 4, 5, 3),  # xx yy zz xy yz zx
    'lammps': (0, 1, 2, 5, 4, 3),  # xx yy zz xy xz yz
}


@dataclass(frozen=True)
class Convention:
    """The units, sign and order of labels in a file.

    Attributes:
        energy: one unit of the file in eV (per atom or total); likewise below.
        length: Å.
        force: eV/Å.
        stress: eV/Å^3, negative if the sign is opposite to ASE's.
        virial: eV; a virial is minus the volume times ASE's stress.
        order: indices of the file's six components that give ASE's order.
    """

    energy: float = 1.0
    per_atom: bool = False
    length: float = 1.0
    force: float = 1.0
    stress: float = 1.0
    virial: float = 1.0
    order: tuple[int, ...] = ORDERS['ase']


ASE: Final[Convention] = Convention()


def of_entry(entry: Mapping[str, Any]) -> Convention:
    """Return the convention of an entry.

    Units of forces, stress and virial follow from those of energy and length unless
    they are given. `stress_unit` is the unit of the virial where there is one.

    Raises:
        UserError: A unit is unknown.
    """
    given = tuple(entry.get(key) for key in UNIT_KEYS)
    return _of(given, entry.get('virial_key') is not None)


@lru_cache(maxsize=256)
def _of(given: tuple[str | None, ...], has_virial: bool) -> Convention:
    energy_unit, length_unit, force_unit, stress_unit, sign, order = given
    energy = 1.0 if energy_unit is None else units.energy(energy_unit)
    length = 1.0 if length_unit is None else units.length(length_unit)
    stress, virial = energy / length**3, energy
    if stress_unit is not None:
        # a format may have either: a unit of the one is none of the other
        try:
            stress = units.stress(stress_unit)
        except UserError:
            if not has_virial:
                raise
            virial = units.energy(stress_unit)
    return Convention(
        energy,
        energy_unit is not None and units.is_per_atom(energy_unit),
        length,
        energy / length if force_unit is None else units.force(force_unit),
        stress * SIGNS[sign or TENSION],
        virial * -SIGNS[sign or COMPRESSION],
        ORDERS[order or 'ase'],
    )


def in_words(entry: Mapping[str, Any]) -> str:
    """Return a description of an entry's labels and their units for the log."""
    energy, length = entry.get('energy_unit', 'eV'), entry.get('length_unit', 'Å')
    per = str(energy).removesuffix(units.PER_ATOM)
    forces = entry.get('force_unit', f'{per}/{length}')
    parts = [f'energy {_named(entry, "energy_key")}in {energy}']
    if entry.get('gradient_key') is not None:
        parts.append(f'forces minus `{entry["gradient_key"]}` in {forces}')
    elif entry.get('force_key', '') is not None:
        parts.append(f'forces {_named(entry, "force_key")}in {forces}')
    sign = entry.get('stress_sign')
    virial = entry.get('virial_key')
    if entry.get('stress_key') or (virial is None and 'stress_key' not in entry):
        unit = entry.get('stress_unit', f'{per}/{length}^3')
        parts.append(
            f'stress {_named(entry, "stress_key")}in {unit}, positive under '
            f'{sign or TENSION}'
        )
    if virial is not None:
        has_own = not entry.get('stress_key') and entry.get('stress_unit')
        parts.append(
            f'virial `{virial}` in {has_own or per}, positive under '
            f'{sign or COMPRESSION}'
        )
    return ', '.join(parts) + f'; lengths in {length}'


def _named(entry: Mapping[str, Any], key: str) -> str:
    return f'`{entry[key]}` ' if entry.get(key) is not None else ''
