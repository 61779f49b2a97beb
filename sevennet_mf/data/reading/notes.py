"""What reading an entry has to report beside its structures, for the log.

How each file was read, which energy was used, what the model does not see, and what
was left out: none of it is an error, and all of it is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from ase import Atoms

from sevennet_mf.data.reading.labels import StructureLabels, info_of

# how files call the charge of a structure, and its spin
CHARGES: Final[tuple[str, ...]] = ('charge', 'total_charge', 'tot_charge')
SPINS: Final[tuple[str, ...]] = ('spin', 'mult', 'multiplicity', 'total_spin')
SHOWN: Final[int] = 3  # of the states of a file


@dataclass(frozen=True)
class Line:
    """A remark on some files of an entry, given by their place in it.

    Attributes:
        loud: whether something was left out or is not seen.
    """

    text: str
    files: tuple[int, ...]
    loud: bool

    def said(self, paths: Mapping[int, str]) -> str:
        """Return the remark with the names of its files."""
        first, *more = [paths[place] for place in self.files]
        others = f' and {len(more)} more' if more else ''
        return f'{first}{others}: {self.text}'


@dataclass
class _FileNotes:
    """What was seen of one file."""

    form: str = ''
    energies: Counter[str] = field(default_factory=Counter)
    differ: bool = False  # the free and the extrapolated energy
    states: Counter[str] = field(default_factory=Counter)
    missing: int = 0  # structures without an energy at this level
    blank: Counter[str] = field(default_factory=Counter)
    unweighed: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    first_bad: str = ''
    isolated: set[str] = field(default_factory=set)

    def lines(self) -> Iterable[tuple[str, bool]]:
        if self.form:
            yield self.form, False
        yield from self._energy()
        if len(self.states) > 1:
            common, *others = self.states.most_common()
            listed = ', '.join(f'{n} of {state}' for state, n in others[:SHOWN])
            yield (
                f'most structures are of {common[0]}, but {listed}'
                f'{" and others" if len(others) > SHOWN else ""}: the model does '
                'not see this. Remove them, or give them a fidelity of their own.'
            ), True
        if self.missing:
            yield (
                f'{self.missing} structures left out: their energy at this level '
                'was not computed'
            ), True
        for key, n in self.blank.items():
            what = 'forces' if key in ('force_key', 'gradient_key') else 'stress'
            yield f'{n} structures have NaN for {what}: taken as missing', True
        for label, n in self.unweighed.items():
            yield f'{n} structures have weight 0 for {label}: taken as missing', True
        if self.bad:
            yield (
                f'{self.bad} structures left out (on_bad: skip). The first: '
                f'{self.first_bad}'
            ), True
        if self.isolated:
            yield (
                f'isolated atoms of {", ".join(sorted(self.isolated))}: reference '
                'energies, not trained on'
            ), False

    def _energy(self) -> Iterable[tuple[str, bool]]:
        free, plain = self.energies['free_energy'], self.energies['energy']
        if self.differ and free:
            yield (
                'energies are the free energies, consistent with the forces, and '
                'not `energy`, which differs (perhaps extrapolated to zero '
                'smearing)'
            ), False
        elif self.differ:
            yield (
                'energies are `energy` (perhaps extrapolated to zero smearing), and '
                'not the free energies, which are consistent with the forces'
            ), False
        if free and plain:
            yield (
                f'`energy` is used for {plain} structures without a free energy, '
                f'the free energy for the other {free}'
            ), True


class Told:
    """Collects remarks while an entry is read.

    Attributes:
        isolated: {fidelity: {symbol: eV}}, energies of isolated atoms.
    """

    def __init__(self) -> None:
        self.files: dict[int, _FileNotes] = {}
        self.isolated: dict[str, dict[str, float]] = {}

    def of(self, place: int) -> _FileNotes:
        """Return the notes on file number `place` of the entry."""
        return self.files.setdefault(place, _FileNotes())

    def structure(
        self, place: int, atoms: Atoms, labels: StructureLabels
    ) -> None:
        """Record a structure that was read."""
        file = self.of(place)
        if labels.source:
            file.energies[labels.source] += 1
            results = {} if atoms.calc is None else atoms.calc.results
            both = results.get('free_energy'), results.get('energy')
            file.differ |= None not in both and both[0] != both[1]
        file.blank.update(labels.blank)
        if state := _state(info_of(atoms)):
            file.states[state] += 1

    def lines(self) -> list[Line]:
        """Return the remarks, each once for all files that it applies to."""
        found: dict[tuple[str, bool], list[int]] = {}
        for place, file in sorted(self.files.items()):
            for line in file.lines():
                found.setdefault(line, []).append(place)
        return [Line(text, tuple(at), loud) for (text, loud), at in found.items()]


def _state(info: Mapping[str, Any]) -> str:
    """'charge 1, spin 2' as far as a structure says, or ''."""
    parts = []
    for name, keys in (('charge', CHARGES), ('spin', SPINS)):
        value = next((info[key] for key in keys if info.get(key) is not None), None)
        if value is not None and np.size(value) == 1:
            number = np.asarray(value).reshape(-1)[0]
            if np.issubdtype(type(number), np.number):
                parts.append(f'{name} {number:g}')
    return ', '.join(parts)
