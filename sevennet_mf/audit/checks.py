"""What may be wrong with labelled structures, taken together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.audit.findings import Report, some, structures
from sevennet_mf.audit.scan import Records
from sevennet_mf.data.dataset import TRAIN, doubtful_base
from sevennet_mf.data.graphs import no_neighbours
from sevennet_mf.data.identity import first_of
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.references import References, fit_references
from sevennet_mf.data.unread import is_left_out, only_validated
from sevennet_mf.errors import UserError

SAME_ENERGY: Final[float] = 1e-6  # eV/atom; a file may have been rounded
CONFLICT: Final[float] = 1e-3  # eV/atom that two labels of one structure differ by


def pairs_of(records: Records, low: str, high: str) -> tuple[Ints, Ints]:
    """Return the rows of `low` and `high` with one structure each, (k,) both."""
    below, above = records.rows(low), records.rows(high)
    _, once = np.unique(records['fingerprint'][above], return_index=True)
    above = above[np.sort(once)]
    at = first_of(records['fingerprint'][below], records['fingerprint'][above])
    return below[at[at >= 0]], above[at >= 0]


# ---- the same structure twice


def check_same_labels(
    records: Records, low: str, high: str, report: Report
) -> None:
    """Identical labels filed under two fidelities."""
    # every label of `high`, where pairs_of takes one of each structure
    below, above = records.rows(low), records.rows(high)
    at = first_of(records['fingerprint'][below], records['fingerprint'][above])
    first, second = below[at[at >= 0]], above[at >= 0]
    gap = records['energy'][second] - records['energy'][first]
    same = np.abs(gap) <= SAME_ENERGY * records['n_atoms'][first]
    if same.any():
        named = _equal(records, first[same], second[same])
        count = structures(int(same.sum()))
        report('same label', 'problem', (
            f'{count} of {high} with the energy that {low} has for '
            f'the same atoms: {named}. One of the files is under the wrong '
            'fidelity, or holds labels of the other.'
        ))


def _equal(records: Records, first: Ints, second: Ints) -> str:
    return some(
        f'{records.source(b)} = {records.source(a)}'
        for a, b in zip(first, second, strict=True)
    )


def check_repeats(records: Records, fidelity: str, report: Report) -> None:
    """One structure several times at one fidelity: in training, or in conflict."""
    rows = records.rows(fidelity)
    at = first_of(records['fingerprint'][rows], records['fingerprint'][rows])
    first, again = rows[at], rows
    repeated = at != np.arange(len(rows))
    gap = np.abs(records['energy'][again] - records['energy'][first])
    conflict = repeated & (gap > CONFLICT * records['n_atoms'][again])
    if conflict.any():
        largest = float((gap / records['n_atoms'][again]).max())
        report('conflict', 'problem', (
            f'{structures(int(conflict.sum()))} of {fidelity} with two energies, up '
            f'to {largest:.3g} eV/atom apart: '
            f'{_equal(records, first[conflict], again[conflict])}. Keep one of '
            'each, or give them two fidelities.'
        ))
    in_train = records['set'] == _number(records, TRAIN)
    twice = repeated & in_train[first] & in_train[again] & ~conflict
    if twice.any():
        report('repeat', 'note', (
            f'{structures(int(twice.sum()))} of {fidelity} more than once in the '
            f'training data: {_equal(records, first[twice], again[twice])}. They '
            'count so often as they are there.'
        ))


def _number(records: Records, name: str) -> int:
    return records.sets.index(name) if name in records.sets else -1


def check_leaks(
    records: Records, fidelity: str, target: str, report: Report
) -> None:
    """Training structures in validation sets; for the target, of any fidelity."""
    for name in records.sets:
        rows = records.rows(fidelity, name)
        if name == TRAIN or len(rows) == 0:
            continue
        marks = records['fingerprint'][rows]
        for other in records.fidelities:
            known = records.rows(other, TRAIN)
            at = first_of(records['fingerprint'][known], marks)
            found = at >= 0
            if not found.any():
                continue
            named = _equal(records, known[at[found]], rows[found])
            count = f'{int(found.sum())} of {structures(len(rows))}'
            if other == fidelity:
                report('leak', 'problem', (
                    f'{count} of {fidelity} in {name} are in its training data, '
                    f'too: {named}. Errors on them say nothing: take them out of '
                    'one.'
                ))
            elif fidelity == target:
                report('seen', 'note', (
                    f'{count} of {fidelity} in {name} are in the training data of '
                    f'{other}: {named}. Errors on them hold for structures that '
                    f'have a label at {other}.'
                ))


def check_base(records: Records, base: str, report: Report) -> None:
    """An order that nobody wrote, and that begins with the rarest fidelity."""
    count = {name: len(records.rows(name, TRAIN)) for name in records.fidelities}
    if message := doubtful_base(count, base):
        report('order', 'note', message)


def check_neighbours(records: Records, cutoff: float, report: Report) -> None:
    """Training data in which no atom has a neighbour; cutoff: Å."""
    if len(records.rows(set=TRAIN)) and not records.has_neighbours:
        report('no neighbours', 'problem', no_neighbours(cutoff))


def check_labels(
    records: Records, entries: Sequence[Entry], report: Report
) -> None:
    """Labels of a fidelity in a validation set and none in its training data."""
    has = {
        'force': ~np.isnan(records['force_max']),
        'stress': ~np.isnan(records['stress']).any(axis=1),
    }
    for (label, known), name in itertools.product(has.items(), records.fidelities):
        rows = records.rows(name, TRAIN)
        if not len(rows) or known[rows].any() or is_left_out(entries, name, label):
            continue
        for held in records.sets:
            if held != TRAIN and known[records.rows(name, held)].any():
                report('unread', 'problem', only_validated(name, label, held))


# ---- reference energies


def fit_training(
    records: Records,
    base: str,
    method: str | Mapping[str, Mapping[str, float]],
    report: Report,
    inferred: Mapping[str, tuple[Ints, Floats]] | None = None,
) -> References | None:
    """Fit reference energies as training does; None if that is not possible.

    inferred: for a fidelity rows of the base that training gives labels of it, and
    their energies in eV.
    """
    rows = {name: records.rows(name, TRAIN) for name in records.fidelities}
    given = {} if isinstance(method, str) else method
    names = [name for name in rows if len(rows[name]) or given.get(name)]
    if not any(len(rows[name]) for name in names):
        return None
    if base not in names:
        base = next(name for name in names if len(rows[name]))
    marks = records['fingerprint'][rows[base]]
    labels = {}
    for name in names:
        own, energy = rows[name], records['energy'][rows[name]]
        if inferred and name in inferred:
            more = inferred[name]
            own = np.concatenate([own, more[0]])
            energy = np.concatenate([energy, more[1]])
        pair = first_of(marks, records['fingerprint'][own])
        labels[name] = records.labels(own, energy, pair)
    elements = records.symbols(records.rows())
    if not isinstance(method, str):
        method = {name: method[name] for name in method if name in names}
    try:
        return fit_references(labels, base, elements, method)
    except UserError as error:
        report('references', 'problem', str(error))
        return None


def check_determined(
    records: Records, references: References, target: str, report: Report
) -> None:
    """Elements and compositions whose reference energy no label fixes."""
    for name in references.fidelities:
        absent = list(references.undetermined[name])
        blocking = 0
        for held in (s for s in records.sets if s != TRAIN):
            blocking += _undetermined_set(
                records, references, name, held, name == target, report
            )
        if absent and not blocking:
            report('not determined', 'note', (
                f'{", ".join(absent)} at {name}: no training structure of {name} '
                'contains it. Energies of such structures will be off by eV per '
                'atom; one labelled structure settles it, or a number under '
                'data.fidelity.reference_energies.'
            ))


def _undetermined_set(
    records: Records,
    references: References,
    name: str,
    held: str,
    is_target: bool,
    report: Report,
) -> int:
    rows = records.rows(name, held)
    if len(rows) == 0:
        return 0
    kinds, where = np.unique(records['kind'][rows], return_inverse=True)
    known = references.determined(records.compositions[kinds], name)
    open_rows = rows[~known[where]]
    if len(open_rows) == 0:
        return 0
    absent = [
        s for s in records.symbols(open_rows) if s in references.undetermined[name]
    ]
    what = (
        f'{", ".join(absent)} at {name}: no training structure of {name} contains it'
        if absent
        else f'the training data of {name} leave open what atoms weigh together'
    )
    examples = some(dict.fromkeys(records.formula(int(r)) for r in open_rows))
    report('not determined', 'problem' if is_target else 'note', (
        f'{what}, but {len(open_rows)} of {structures(len(rows))} in {held} need it '
        f'({examples}; first {records.source(int(open_rows[0]))}). Add a labelled '
        'structure, or a number under data.fidelity.reference_energies.'
    ))
    return len(open_rows)


def check_elements(
    records: Records, species: str | Sequence[str], report: Report
) -> None:
    """Elements that the model does not know; species: model.chemical_species."""
    rows = records.rows()
    if len(rows) == 0 or len(records.rows(set=TRAIN)) == 0:
        return
    automatic = isinstance(species, str)
    known = records.symbols(records.rows(set=TRAIN)) if automatic else list(species)
    numbers = [atomic_numbers[s] for s in records.symbols(rows) if s not in known]
    for z in numbers:
        holds = records.compositions[records['kind'][rows], z] > 0
        where = some(records.source(int(r)) for r in rows[holds])
        why = (
            'no training structure holds it, so the model will not know it'
            if automatic
            else f'model.chemical_species knows {", ".join(known)} only'
        )
        report('element', 'problem', (
            f'{chemical_symbols[z]} in {where}: {why}. Take the structures out, or '
            'add ' + ('training data.' if automatic else 'it there.')
        ))


def check_sets(
    records: Records,
    target: str,
    report: Report,
    old: Sequence[str] = (),
) -> None:
    """Fidelities without data, and a target without validation data.

    old: those of a checkpoint that training goes on from, which need none.
    """
    for name in records.fidelities:
        needs = name == target or name not in old
        if needs and len(records.rows(name, TRAIN)) == 0:
            what = 'the target ' if name == target else ''
            report('no data', 'problem', (
                f'{what}{name} has no usable structure in load_trainset_path. Add '
                'data, or take it out of data.fidelity.order.'
            ))
    held = [len(records.rows(target, s)) for s in records.sets if s != TRAIN]
    if not any(held):
        report('no validation', 'note', (
            f'no validation data of the target {target}: the best checkpoint cannot '
            'be chosen by it. Add some under data.load_validset_path, or set '
            'data.data_divide_ratio.'
        ))


