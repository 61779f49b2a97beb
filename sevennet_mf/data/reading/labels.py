"""Labels of one structure: where each is looked up, and which are trusted.

Units: eV, eV/Å; stress in eV/Å^3 in the host's order and sign: (xx, yy, zz, xy, yz,
zx) of minus ASE's stress, so that compression is positive. Files may use other
units: see convention.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase import Atoms

from sevennet_mf.arrays import Floats
from sevennet_mf.data.reading import convention
from sevennet_mf.data.reading.convention import Convention
from sevennet_mf.data.reading.label_names import (
    is_per_atom,
    kind_of,
    kind_of_name,
    likeliest_first,
)
from sevennet_mf.data.reading.stress import (
    STRESS_SHAPES,
    array_of,
    has_stress,
    of_virial,
    stress_of,
)
from sevennet_mf.errors import UserError, nearest
from sevennet_mf.keys import KBAR

# With all its electrons the heaviest element has -1.5e6 eV
MAX_ENERGY: Final[float] = 2.0e6  # eV/atom
MAX_FORCE: Final[float] = 1.0e3  # eV/Å
MAX_STRESS: Final[float] = 1.0e5  # kbar

LABEL_KEYS: Final[tuple[str, ...]] = (
    'force_key',
    'gradient_key',
    'stress_key',
    'virial_key',
)
MACE_HINT: Final[str] = '; `format: mace` names all that MACE reads'

Entry = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class StructureLabels:
    """The labels of a structure.

    Attributes:
        energy: in eV, total.
        forces: (n_atoms, 3) in eV/Å, or None.
        stress: (6,) in eV/Å^3 in the host's order and sign, or None.
        named: those of LABEL_KEYS that the structure has.
        blank: those of them that contain only NaN.
        source: ASE's name of the energy, '' where a key names it.
    """

    energy: float
    forces: Floats | None = None
    stress: Floats | None = None
    named: frozenset[str] = frozenset()
    blank: frozenset[str] = frozenset()
    source: str = ''


class NotComputed(UserError):
    """The energy of a structure was not computed at the requested level."""


def of_atoms(atoms: Atoms, entry: Entry, where: str) -> StructureLabels:
    """Return the labels of `atoms` that `entry` asks for; None for those it lacks.

    Args:
        entry: `energy_key` and LABEL_KEYS as in config.DataEntry.
        where: what to call the structure in errors.

    Raises:
        UserError: There is no energy, the energy and forces may be of two levels of
            theory, or a value cannot be a label.
    """
    # a reader leaves the labels of the file in a calculator that only holds them;
    # its get_forces() would apply constraints
    results = {} if atoms.calc is None else atoms.calc.results
    info = info_of(atoms)
    both = {**info, **atoms.arrays}
    written = convention.of_entry(entry)
    energy, source, is_own = _energy(info, entry, results, where)
    virial = _find('virial_key', 'virial', both, {}, entry)
    gradient = _find('gradient_key', 'gradient', both, {}, entry)
    forces = stress = None
    if entry.get('gradient_key') is None:
        forces = _find('force_key', 'forces', both, results, entry)
    if entry.get('virial_key') is None or entry.get('stress_key') is not None:
        _refuse_virial(entry, where)
        stress = _find('stress_key', 'stress', info, results, entry)
    given = {
        'force_key': forces,
        'gradient_key': gradient,
        'stress_key': stress,
        'virial_key': virial,
    }
    blank = frozenset(key for key, value in given.items() if _is_blank(value))
    given |= dict.fromkeys(blank)
    named = frozenset(
        key
        for key, value in given.items()
        if entry.get(key) is not None and value is not None
    )
    if not is_own:
        arrays = {k: v for k, v in both.items() if k != 'positions'}
        _refuse_mixture('force_key', 'forces', forces, arrays, entry, where)
        if has_stress(atoms):
            _refuse_mixture('stress_key', 'stress', stress, info, entry, where)
    atoms_of_unit = len(atoms) if written.per_atom else 1
    labels = StructureLabels(
        _number(energy, where) * written.energy * atoms_of_unit,
        _pulls(given, len(atoms), written, where),
        _stress(atoms, given['stress_key'], given['virial_key'], where, written),
        named,
        blank,
        source,
    )
    check(labels, len(atoms), where)
    return labels


def _is_blank(value: Any) -> bool:
    """Whether a label contains only NaN, which means that it is missing."""
    if value is None or isinstance(value, str):
        return False
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False  # what it is will be said
    # most are numbers, which the first one tells
    is_first = array.size > 0 and bool(np.isnan(array.flat[0]))
    return is_first and bool(np.isnan(array).all())


def info_of(atoms: Atoms) -> dict[str, Any]:
    """Return the info of a structure, with what databases keep in a block of it."""
    info = dict(atoms.info)
    for block in ('data', 'key_value_pairs'):
        if isinstance(inner := info.get(block), Mapping):
            info = {**inner, **info}
    return info


def check(labels: StructureLabels, n_atoms: int, where: str) -> None:
    """Raise UserError for a label that is not finite or is not a label at all."""
    per_atom = labels.energy / n_atoms
    if not np.isfinite(labels.energy):
        raise UserError(
            f'{where} has energy {labels.energy}. Correct or remove the structure.'
        )
    if abs(per_atom) > MAX_ENERGY:
        raise UserError(
            f'{where} has energy {per_atom:.6g} eV/atom, beyond {MAX_ENERGY:g}: it '
            'must be the total energy. Write its unit, as in `energy_unit: '
            'Hartree`, or remove it.'
        )
    if labels.forces is not None:
        remedy = 'Correct it, or leave forces out with `force_key: null`.'
        _check_size(labels.forces, MAX_FORCE, 'force', 'eV/Å', where, remedy)
    if labels.stress is not None:
        remedy = (
            'Is it in kbar or GPa? Write `stress_unit: kbar`, for example. Or '
            'correct it, or leave stress out with `stress_key: null`.'
        )
        kbar = labels.stress * KBAR
        _check_size(kbar, MAX_STRESS, 'stress', 'kbar', where, remedy)


def _check_size(
    values: Floats, limit: float, label: str, unit: str, where: str, remedy: str
) -> None:
    wrong = ~(np.abs(values) <= limit)  # NaN compares false
    if wrong.any():
        first = np.argwhere(wrong)[0]
        atom = f' on atom {first[0]}' if values.ndim == 2 else ''
        value = values[tuple(first)]
        if np.isfinite(value):
            raise UserError(
                f'{where} has a {label}{atom} of {value:.6g} {unit}, beyond '
                f'{limit:g}. {remedy}'
            )
        raise UserError(f'{where} has a {label}{atom} of {value}. {remedy}')


def _energy(
    info: Mapping[str, Any], entry: Entry, results: Mapping[str, Any], where: str
) -> tuple[Any, str, bool]:
    """The energy, its name in ASE or '', and whether it is the one ASE reads."""
    key = entry.get('energy_key')
    if key is None:
        # the free energy is what forces are the derivative of
        source = 'free_energy' if 'free_energy' in results else 'energy'
        if is_placeholder(results):  # unread_labels.py says so
            source = 'energy'
        energy = results.get(source)
        if energy is None:
            raise UserError(
                f'{where} has no energy. Remove it, or write `energy_key:` with the '
                f'key of its info that holds one{_listed(_energies(info))}'
                f'{MACE_HINT if "REF_energy" in info else ""}.'
            )
        return energy, source, True
    _refuse_per_atom(entry, where)
    if key in info:
        if info[key] is None or _is_blank(info[key]):
            raise NotComputed(
                f'{where} has no energy {key!r}: its value is {info[key]}. Name '
                f'another key with energy_key{_listed(info)}.'
            )
        return info[key], '', False
    if key in results:
        is_own = key in ('energy', 'free_energy')
        return results[key], key if is_own else '', is_own
    known = [*info, *results]
    raise UserError(
        f'{where} has no energy: energy_key {key!r} is not in its info'
        f'{_listed(known)}.{nearest(key, known)} Correct energy_key, or remove the '
        'structure.'
    )


def _energies(info: Mapping[str, Any]) -> list[str]:
    """The keys that are named like an energy, else all of them."""
    named = (k for k, v in info.items() if kind_of(k) == 'energy' and not np.ndim(v))
    return likeliest_first(named) or [*info]


def _refuse_per_atom(entry: Entry, where: str) -> None:
    key = entry['energy_key']
    if is_per_atom(key) and not entry.get('energy_unit'):
        raise UserError(
            f'{where}: energy_key {key!r} is named like an energy per atom. Write '
            '`energy_unit: eV/atom`, or `energy_unit: eV` if it is a total energy.'
        )


def is_placeholder(results: Mapping[str, Any]) -> bool:
    """Return whether the free energy is a placeholder: 0 or NaN beside an energy."""
    free, energy = results.get('free_energy'), results.get('energy')
    if free is None or energy is None:
        return False
    lacking = free == 0.0 or bool(np.isnan(free))
    return lacking and energy != 0.0 and bool(np.isfinite(energy))


def _refuse_virial(entry: Entry, where: str) -> None:
    key = entry.get('stress_key')
    if key is not None and kind_of_name(key)[0] == 'virial':
        raise UserError(
            f'{where}: stress_key {key!r} is named like a virial (minus the volume '
            f'times the stress). Write `virial_key: {key}`, or give it another '
            'name if it is a stress.'
        )


def _find(
    entry_key: str,
    name: str,
    own: Mapping[str, Any],
    results: Mapping[str, Any],
    entry: Entry,
) -> Any:
    """The label under the entry's key, else ASE's; None where there is none."""
    if entry_key not in entry:
        return results.get(name)
    key = entry[entry_key]
    if key is None:  # by the word of the user
        return None
    return own[key] if key in own else results.get(key)


def _refuse_mixture(
    entry_key: str,
    name: str,
    found: Any,
    own: Mapping[str, Any],
    entry: Entry,
    where: str,
) -> None:
    """Labels of two levels of theory must not meet in one structure unnoticed."""
    if entry_key in entry or found is None:
        return
    shapes = STRESS_SHAPES if name == 'stress' else (np.shape(found),)
    others = [key for key, value in own.items() if np.shape(value) in shapes]
    raise UserError(
        f'{where}: energy_key is {entry["energy_key"]!r}, but its {name} would be '
        f"the file's own `{name}`, perhaps of another level of theory. Write "
        f'`{entry_key}: <key>` with the key of the {name} that belong to it'
        f'{_listed([*others, name])}, or `{entry_key}: null` for none.'
    )


def _listed(known: Iterable[str]) -> str:
    names = ', '.join(str(key) for key in known)
    return f' ({names})' if names else ''


def _number(value: Any, where: str) -> float:
    try:
        return float(np.asarray(value).squeeze())
    except (TypeError, ValueError):
        raise UserError(
            f'{where} has energy {value!r}: it must be a number in eV. Correct it, '
            'or name another key with `energy_key`.'
        ) from None


def _pulls(
    given: Mapping[str, Any], n_atoms: int, written: Convention, where: str
) -> Floats | None:
    """The forces, from themselves or from the gradient of the energy."""
    if given['force_key'] is not None:
        return written.force * _forces(given['force_key'], n_atoms, where)
    if given['gradient_key'] is not None:
        return -written.force * _forces(given['gradient_key'], n_atoms, where)
    return None


def _forces(value: Any, n_atoms: int, where: str) -> Floats:
    forces = array_of(value, 'forces', '(atoms, 3)', where)
    if forces.shape != (n_atoms, 3):
        raise UserError(
            f'{where} has forces of shape {forces.shape} for {n_atoms} atoms. '
            'Correct them, or name another key with `force_key`.'
        )
    return forces


def _stress(
    atoms: Atoms, stress: Any, virial: Any, where: str, written: Convention
) -> Floats | None:
    """The stress, (6,) as the host has it, from either; None if there is none."""
    if not has_stress(atoms):
        return None
    if stress is not None:
        return stress_of(stress, where, written)
    return None if virial is None else of_virial(virial, atoms, where, written)
