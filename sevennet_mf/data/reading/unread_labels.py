"""Labels in a file that nothing would read, found by name and shape.

Whatever the entry of a file does not name would be lost silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase import Atoms

from sevennet_mf.data.reading import convention
from sevennet_mf.data.reading import labels as label_rules
from sevennet_mf.data.reading.convention import ALTERNATIVES
from sevennet_mf.data.reading.label_names import kind_of, likeliest_first
from sevennet_mf.data.reading.labels import Entry, StructureLabels, info_of
from sevennet_mf.data.reading.stress import (
    STRESS_SHAPES,
    has_stress,
    of_virial,
    stress_of,
)
from sevennet_mf.errors import UserError

# the key that reads a label, what counts as having said something about it
READ_BY: Final[dict[str, str]] = {
    'energy': 'energy_key',
    'forces': 'force_key',
    'gradient': 'gradient_key',
    'stress': 'stress_key',
    'virial': 'virial_key',
}
PLACEHOLDER: Final[str] = 'placeholder'
CLOSE: Final[dict[str, float]] = {  # of one number in two writings
    'energy': 1e-4,  # eV
    'forces': 1e-3,  # eV/Å
    'stress': 1e-4,  # eV/Å^3
}


class UnreadLabel(UserError):
    """A structure has labels that its entry neither names nor leaves out."""


@dataclass(frozen=True)
class Unread:
    """A label that would not be read.

    Attributes:
        name: its key in the info or the arrays.
        kind: one of READ_BY.
    """

    name: str
    kind: str


def find(atoms: Atoms, entry: Entry, found: StructureLabels) -> list[Unread]:
    """Return the labels of `atoms` that are neither in `found` nor left out.

    A label that is there twice with the same numbers is not lost. A placeholder for
    a free energy is returned as a PLACEHOLDER: the energy was read instead.

    Args:
        entry: as for labels.of_atoms, which returned `found`.
    """
    lost = [
        Unread(name, kind)
        for name, kind, value in _candidates(atoms)
        if not _is_settled(kind, entry)
        and not _is_read(kind, value, atoms, found, entry)
    ]
    unnamed = entry.get('energy_key') is None
    if unnamed and label_rules.is_placeholder(_results(atoms)):
        lost.append(Unread('free_energy', PLACEHOLDER))
    return lost


def error(lost: list[Unread], atoms: Atoms, where: str) -> UnreadLabel:
    """Return the one-line error that names what is lost and what to write."""
    results = _results(atoms)
    named = [label for label in lost if label.kind != PLACEHOLDER]
    parts = []
    if named:
        names = ' and '.join(f'`{label.name}`' for label in named)
        one = len(named) == 1
        what = 'is named like a label' if one else 'are named like labels'
        advice = '; '.join(_advice(named, results))
        parts.append(
            f'{names} {what}, but no key reads {"it" if one else "them"}. Write '
            f'{advice}.'
        )
    if len(named) < len(lost):
        parts.append(
            f'its free_energy is {float(results["free_energy"]):g}, its energy '
            f'{float(results["energy"]):.6g} eV: the free energy is probably a '
            'placeholder. Write `energy_key: energy`, or `energy_key: free_energy` '
            'if it is intended.'
        )
    return UnreadLabel(f'{where}: {" ".join(parts)}')


def _results(atoms: Atoms) -> dict[str, Any]:
    return {} if atoms.calc is None else atoms.calc.results


def _energy_of(atoms: Atoms, unit: float) -> float | None:
    energy = _results(atoms).get('energy')
    return None if energy is None else unit * float(energy)


def _advice(named: list[Unread], results: Mapping[str, Any]) -> Iterator[str]:
    """What to write about each kind of label."""
    for kind in dict.fromkeys(label.kind for label in named):
        key = READ_BY[kind]
        names = likeliest_first(x.name for x in named if x.kind == kind)
        choices = [f'{key}: {name}' for name in names]
        own = 'stress' if kind == 'virial' else kind
        if results.get(own) is not None:  # what ASE reads is a choice, too
            choices.append(f'{READ_BY[own]}: {own}')
        advice = ' or '.join(f'`{choice}`' for choice in choices)
        may_lack = kind != 'energy'
        yield f'{advice}, or `{key}: null` to leave it out' if may_lack else advice


def _candidates(atoms: Atoms) -> Iterator[tuple[str, str, Any]]:
    """(name, kind, value) of whatever is named and shaped like a label."""
    n = len(atoms)
    for name, value in atoms.arrays.items():
        kind = kind_of(name)
        fitting = {
            'forces': [(3,)],
            'gradient': [(3,)],
            'virial': STRESS_SHAPES,
        }
        if kind in fitting and np.shape(value)[1:] in fitting[kind]:
            yield name, kind, value
    periodic = has_stress(atoms)
    for name, value in info_of(atoms).items():
        kind = kind_of(name)
        if kind is None or not _is_numeric(value):
            continue
        shape = np.shape(value)
        fits = {
            'energy': np.size(value) == 1,
            'forces': shape == (n, 3),
            'gradient': shape == (n, 3),
            'stress': periodic and shape in STRESS_SHAPES,
            'virial': periodic and shape in STRESS_SHAPES,
        }
        if fits[kind]:
            yield name, kind, value


def _is_numeric(value: Any) -> bool:
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return False
    return array.dtype.kind in 'fiu'


def _is_settled(kind: str, entry: Entry) -> bool:
    """Whether an entry says of which key the label is, or that there is none."""
    own = READ_BY[kind]
    others = [key for pair in ALTERNATIVES if own in pair for key in pair]
    if kind in ('forces', 'stress'):  # these may be read without a key
        return own in entry or any(entry.get(key) is not None for key in others)
    return own in entry or any(key in entry for key in others)


def _is_read(
    kind: str, value: Any, atoms: Atoms, found: StructureLabels, entry: Entry
) -> bool:
    """Whether the numbers are those of a label that is read."""
    own: list[Any]
    written = convention.of_entry(entry)
    if kind == 'energy':
        own = [found.energy, _energy_of(atoms, written.energy)]
        value = np.asarray(value, dtype=np.float64) * written.energy
    elif kind in ('forces', 'gradient'):
        own = [found.forces]
        sign = 1.0 if kind == 'forces' else -1.0
        value = sign * written.force * np.asarray(value, dtype=np.float64)
        kind = 'forces'
    else:
        own = [found.stress]
        is_virial, kind = kind == 'virial', 'stress'
        if is_virial:
            value = of_virial(value, atoms, '', written)
        else:
            value = stress_of(value, '', written)
    value = np.asarray(value, dtype=np.float64).squeeze()
    return any(
        np.allclose(np.squeeze(other), value, rtol=1e-4, atol=CLOSE[kind])
        for other in own
        if other is not None
    )
