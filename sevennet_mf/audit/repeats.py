"""The same structure twice: in one set, in two of them, at two fidelities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from sevennet_mf.audit.records import Records
from sevennet_mf.data.checks import equal, leak
from sevennet_mf.data.dataset import TRAIN
from sevennet_mf.data.findings import Finding, note, problem, structures
from sevennet_mf.data.same.identity import first_of

SAME_ENERGY: Final[float] = 1e-6  # eV/atom; a file may have been rounded
CONFLICT: Final[float] = 1e-3  # eV/atom that two labels of one structure differ by


def same_labels(records: Records, low: str, high: str) -> Iterator[Finding]:
    """Yield identical labels at two fidelities."""
    # every label of `high`, where Records.pairs takes one of each structure
    below, above = records.rows(low), records.rows(high)
    at = first_of(records['fingerprint'][below], records['fingerprint'][above])
    first, second = below[at[at >= 0]], above[at >= 0]
    gap = records['energy'][second] - records['energy'][first]
    same = np.abs(gap) <= SAME_ENERGY * records['n_atoms'][first]
    if same.any():
        count = int(same.sum())
        named = equal(records, first[same], records, second[same])
        yield problem('same label', (
            f'{structures(count)} of {high} with the same energy as at {low}: '
            f'{named}. One of the files has the wrong fidelity, or contains '
            'labels of the other.'
        ), low, high, count=count)


def repeats(records: Records, fidelity: str) -> Iterator[Finding]:
    """Yield structures that repeat at one fidelity, in training or in conflict."""
    rows = records.rows(fidelity)
    at = first_of(records['fingerprint'][rows], records['fingerprint'][rows])
    first, again = rows[at], rows
    repeated = at != np.arange(len(rows))
    gap = np.abs(records['energy'][again] - records['energy'][first])
    conflict = repeated & (gap > CONFLICT * records['n_atoms'][again])
    if conflict.any():
        count = int(conflict.sum())
        largest = float((gap / records['n_atoms'][again]).max())
        named = equal(records, first[conflict], records, again[conflict])
        yield problem('conflict', (
            f'{structures(count)} of {fidelity} with two different energies, up to '
            f'{largest:.3g} eV/atom apart: {named}. Keep one of each, or make them '
            'two fidelities.'
        ), fidelity, count=count)
    in_train = np.isin(np.arange(len(records)), records.rows(set=TRAIN))
    twice = repeated & in_train[first] & in_train[again] & ~conflict
    if twice.any():
        count = int(twice.sum())
        named = equal(records, first[twice], records, again[twice])
        yield note('repeat', (
            f'{structures(count)} of {fidelity} more than once in the training '
            f'data: {named}. Each copy counts.'
        ), fidelity, count=count)


def leaks(records: Records, fidelity: str, target: str) -> Iterator[Finding]:
    """Yield training structures in other sets; for the target, of any fidelity."""
    for name in (held for held in records.sets if held != TRAIN):
        held = records.part(name, fidelity)
        found = leak(held, records.part(TRAIN, fidelity), f'{fidelity} in {name}')
        if found is not None:
            yield found
        if fidelity != target:
            continue
        for other in (n for n in records.fidelities if n != fidelity):
            known = records.part(TRAIN, other)
            at = first_of(known.fingerprint, held.fingerprint)
            rows = np.flatnonzero(at >= 0)
            if len(rows):
                yield note('seen', (
                    f'{len(rows)} of {structures(len(held))} of {fidelity} in '
                    f'{name} are in the training data of {other}: '
                    f'{equal(known, at[rows], held, rows)}. Errors on them apply '
                    f'only to structures that also have a label at {other}.'
                ), fidelity, other, count=len(rows))
