"""A cutoff that cannot be meant, by the neighbours that atoms have within it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from ase.neighborlist import neighbor_list

from sevennet_mf.audit.records import Records
from sevennet_mf.data.findings import Finding, note
from sevennet_mf.data.reading.read import Structure

DENSE: Final[float] = 30.0  # Å^3 per atom: a molecule in a box has more
LONG: Final[float] = 12.0  # Å: twice what interatomic potentials use
MANY: Final[float] = 500.0  # neighbours per atom
FEW: Final[float] = 4.0  # the same: an open network, such as diamond, has 4 bonds
COUNTED: Final[float] = 50.0  # the same: more are estimated from the density


def neighbours(structure: Structure, volume: float, cutoff: float) -> float:
    """Return the mean number of neighbours of an atom of a condensed structure.

    Args:
        volume: In Å^3, NaN unless the structure repeats in three directions.
        cutoff: In Å.

    Returns:
        The number; NaN for other structures.
    """
    n_atoms = len(structure.numbers)
    if structure.atoms is None or not 0.0 < volume < DENSE * n_atoms:
        return float('nan')
    expected = 4.0 / 3.0 * np.pi * cutoff**3 * n_atoms / volume
    if expected > COUNTED:
        return float(expected)
    return len(neighbor_list('i', structure.atoms, cutoff)) / n_atoms


def doubtful(records: Records, cutoff: float) -> Iterator[Finding]:
    """Yield a note on a cutoff, in Å, that is far too long or too short."""
    known = ~np.isnan(records['neighbours'])
    weights = records['n_atoms'][known]
    values = records['neighbours'][known]
    mean = float(np.average(values, weights=weights)) if len(values) else np.nan
    count = f'{mean:,.0f}' if mean >= 100.0 else f'{mean:.2g}'
    within = '' if np.isnan(mean) else (
        f': atoms of bulk structures have {count} neighbours within it, on average'
    )
    if cutoff > LONG or mean > MANY:
        yield note('cutoff', (
            f'model.cutoff is {cutoff:g} Å{within}. Time and memory grow with the '
            'number of neighbours, and 4 to 6 Å are usual: is the decimal point '
            'where it should be?'
        ))
    elif records.linked and mean < FEW:
        yield note('cutoff', (
            f'model.cutoff is {cutoff:g} Å{within}. These are too few to '
            'describe how atoms are surrounded; 4 to 6 Å are usual. Cutoff, '
            'positions and cells must be in Å.'
        ))
