"""Lengths in another unit, by the distance of the closest atoms.

Bonded atoms are 0.85 to 1.2 times the sum of their covalent radii apart, whatever
they are; 1.9 times as much in Bohr, half as much where Å were converted again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from sevennet_mf.audit.findings import Report
from sevennet_mf.audit.scan import Records
from sevennet_mf.audit.units import BOHR

FEWEST: Final[int] = 3  # structures
LONG: Final[float] = 1.5  # of the sum of the covalent radii: no bond is so long
SHORT: Final[float] = 0.62  # nor so short
WITHIN: Final[float] = 0.25  # of the factor between Å and Bohr, in its logarithm


def check(records: Records, report: Report) -> None:
    """Report files whose closest atoms are too far or too near for Å."""
    groups = list(_groups(records))
    usual = [median for _, _, median in groups if SHORT < median < LONG]
    for fidelity, path, median in groups:
        if SHORT < median < LONG:
            continue
        factor = 1 / BOHR if median >= LONG else BOHR
        expected = float(np.median(usual)) if usual else 1.0
        fits = abs(np.log(median / expected / factor)) < WITHIN
        guess = ''
        if fits and factor > 1:
            guess = ' They look like Bohr.'
        elif fits:
            guess = ' They look like Å that were taken for Bohr and converted.'
        beside = f', and {expected:.2f} times in other files' if usual else ''
        report('unit', 'problem' if usual and fits else 'note', (
            f'{path}: the closest atoms in structures of {fidelity} are '
            f'{median:.2f} times the sum of their covalent radii apart{beside}.'
            f'{guess} Positions and cells must be in Å.'
        ))


def _groups(records: Records) -> Iterator[tuple[str, str, float]]:
    """(fidelity, path, median of the closest distance) of each file."""
    known = ~np.isnan(records['nearest'])
    for name in records.fidelities:
        rows = records.rows(name)
        rows = rows[known[rows]]
        for file in np.unique(records['file'][rows]):
            values = records['nearest'][rows[records['file'][rows] == file]]
            if len(values) >= FEWEST:
                yield name, records.paths[file], float(np.median(values))
