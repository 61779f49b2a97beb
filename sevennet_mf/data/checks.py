"""What may be wrong with the data of a run: each check is made here, once.

Training stops at the first problem and logs notes as warnings, `inspect` reports
all of them, and a study refuses what its runs would stop at: all call the same
functions.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

import numpy as np
from ase.data import chemical_symbols

from sevennet_mf.arrays import N_SPECIES, Bools, Ints
from sevennet_mf.config.complete import lacking_shares
from sevennet_mf.data.dataset import TRAIN, is_validation
from sevennet_mf.data.findings import (
    Finding,
    LabelledSet,
    Marked,
    note,
    problem,
    some,
    structures,
)
from sevennet_mf.data.needs import Needs
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.data.same.identity import first_of
from sevennet_mf.errors import nearest

Sets = Mapping[str, LabelledSet]


# ---- the sets as they are read


def as_read(needs: Needs, sets: Sets) -> Iterator[Finding]:
    """Yield findings on the sets before the training set is divided or completed."""
    yield from coverage(needs, sets[TRAIN])
    yield from two_validations(sets, needs.ratio)
    yield from validated_alone(needs, sets)
    yield from neighbours(needs, sets[TRAIN])
    yield from doubtful_base(needs, sets[TRAIN])
    if needs.species is not None:
        for data in sets.values():
            yield from unknown_elements(data, needs.species)


def coverage(needs: Needs, train: LabelledSet) -> Iterator[Finding]:
    """Yield fidelities that the YAML names but no training structure has."""
    known = dict.fromkeys([*needs.order, *train.fidelities])
    covered = [
        name
        for name in known
        if name in needs.labelled
        or (name in train.fidelities and len(train.rows_of(name)))
    ]
    named = [('train.fidelity.target', needs.target)]
    named += [('train.fidelity.loss_weight', name) for name in needs.weights]
    named += [('train.fidelity.sampling', name) for name in needs.shares or ()]
    for key, name in named:
        if name not in covered:
            yield problem('no data', (
                f'{key} names {name!r}, but data.load_trainset_path has no '
                f'structure of it, only of {covered}.{nearest(name, covered)} Add '
                f'its data, or remove it from {key}.'
            ), name)
    said = {*covered, *(name for _, name in named)}
    # the checkpoint has references of its own fidelities
    excused = {*needs.old, *needs.given} if needs.continues else set()
    lacking = [n for n in needs.order if n not in said and n not in excused]
    if lacking:
        yield problem('no data', (
            f'data.load_trainset_path has no structure of {lacking}, which '
            'data.fidelity.order lists. Add their data, or remove them from the '
            'order.'
        ), *lacking)
    shareless = [n for n in covered if needs.shares and n not in needs.shares]
    if shareless:
        yield problem('no share', lacking_shares(shareless), *shareless)


def two_validations(sets: Iterable[str], ratio: float) -> Iterator[Finding]:
    """Yield a finding if `data_divide_ratio` is set beside a validation set.

    Args:
        sets: names of the sets.
    """
    given = [name for name in sets if is_validation(name)]
    if given and ratio > 0:
        yield problem('no validation', (
            f'data.data_divide_ratio: {ratio} and load_{given[0]}_path both give a '
            'validation set. Remove one of them.'
        ))


def validated_alone(needs: Needs, sets: Sets) -> Iterator[Finding]:
    """Yield fidelities with forces or stress in validation data only."""
    words = {'force': 'forces', 'stress': 'stress'}
    train = sets[TRAIN]
    for label in needs.labels:
        for name in train.fidelities:
            rows = train.rows_of(name)
            known = train.has[label][rows].any()
            if known or not len(rows) or _is_settled(needs.entries, name, label):
                continue
            for held, data in sets.items():
                has = data.has[label][data.rows_of(name)]
                if is_validation(held) and has.any():
                    yield problem('unread', (
                        f'{name} has {words[label]} in {held}, but none in its '
                        'training data: are they under another key there? Name it '
                        f'with {label}_key, or write `{label}_key: null` in the '
                        'entries of load_trainset_path if there are none.'
                    ), name, count=int(has.sum()))


def _is_settled(entries: Sequence[Entry], fidelity: str, label: str) -> bool:
    """Whether an entry for `fidelity` says something of a label ('force', ...)."""
    words = {f'{label}_key', *(['virial_key'] if label == 'stress' else [])}
    return any(
        bool(words & set(entry))
        for entry in entries
        if entry.get('fidelity', fidelity) == fidelity
    )


def neighbours(needs: Needs, train: LabelledSet) -> Iterator[Finding]:
    """Yield a finding if no atom of the training data has a neighbour."""
    if len(train) and not train.has_neighbours:
        yield problem('no neighbours', (
            'data.load_trainset_path: no two atoms of any structure are within '
            f'model.cutoff ({needs.cutoff:g} Å) of each other, so there is nothing '
            'to train on. Cutoff, positions and cells must be in Å; add structures '
            'in which atoms have neighbours.'
        ), count=len(train))


def doubtful_base(needs: Needs, train: LabelledSet) -> Iterator[Finding]:
    """Yield a finding if a default order begins with the rarest fidelity."""
    if not needs.is_default or needs.continues:
        return
    base = needs.base
    count = {name: len(train.rows_of(name)) for name in train.fidelities}
    others = {name: n for name, n in count.items() if name != base and n}
    if not others or count[base] >= min(others.values()):
        return
    counted = ', '.join(f'{name!r} has {n}' for name, n in others.items())
    order = sorted(count, key=lambda name: -count[name])
    yield note('order', (
        f'{base!r} is the base and {list(count)[-1]!r} the target, because '
        f'load_trainset_path names them first and last, but {base!r} has the fewest '
        f'structures: {count[base]}, while {counted}. If it is the higher '
        f'level of theory, write data.fidelity.order: [{", ".join(order)}].'
    ), base)


def unknown_elements(
    data: LabelledSet, known: Collection[int]
) -> Iterator[Finding]:
    """Yield elements that a model does not know.

    Args:
        known: atomic numbers that it knows.
    """
    remedy = (
        'Remove them, or add the elements to model.chemical_species and train a '
        'new model.'
    )
    yield from foreign_elements(
        data.compositions(), data.source, known, 'the model', remedy
    )


def foreign_elements(
    parts: Iterable[tuple[Ints, Ints]],
    name_of: Callable[[int], str],
    known: Collection[int],
    model: str,
    remedy: str,
) -> Iterator[Finding]:
    """Yield elements that are not among those that a model knows.

    Args:
        parts: (k,) structures and their (k, 119) atoms of each atomic number.
        name_of: returns the name of structure i.
        known: atomic numbers that the model knows.
        model: what to call the model.
    """
    is_known = np.zeros(N_SPECIES, bool)
    is_known[list(known)] = True
    first, n, used = -1, 0, np.zeros(N_SPECIES, bool)
    for rows, count in parts:
        foreign = (count > 0) & ~is_known
        is_foreign: Bools = np.asarray(foreign.any(axis=1))
        if first < 0 and is_foreign.any():
            first = int(rows[is_foreign.argmax()])
        n += int(is_foreign.sum())
        used |= foreign.any(axis=0)
    if n == 0:
        return
    unknown = [chemical_symbols[z] for z in np.flatnonzero(used)]
    names = ', '.join(chemical_symbols[z] for z in np.flatnonzero(is_known))
    yield problem('element', (
        f'{name_of(first)}: {model} does not know {", ".join(unknown)}, in '
        f'{structures(n)}; it knows {names}. {remedy}'
    ), *unknown, count=n)


# ---- the sets as they are trained on


def nothing_held_out(ratio: float) -> Finding:
    """Return the finding for a validation share of less than one structure."""
    return problem('no validation', (
        f'data.data_divide_ratio: {ratio} of the training set is less than one '
        'structure. Raise it, or give load_validset_path.'
    ))


def choosing(target: str, held: Mapping[str, Collection[str]]) -> list[str]:
    """Return the sets that may select the best checkpoint, the one that does first.

    Args:
        held: the fidelities of the structures of each set.
    """
    names = [n for n, own in held.items() if is_validation(n) and target in own]
    return sorted(names, key=lambda name: name != 'validset')


def no_validation(target: str) -> Finding:
    """Return the finding for a target that no validation set contains."""
    return note('no validation', (
        f'no validation set contains the target {target!r}, so the best checkpoint '
        'is chosen on the training set. Add load_validset_path, or set '
        'data.data_divide_ratio.'
    ), target)


# ---- between sets


def leak(
    held: Marked, known: Marked, where: str, source: str = 'training'
) -> Finding | None:
    """Return a finding if structures of a set are in another at the same fidelity.

    Args:
        where: what to call `held`.
        source: what `known` are the data of.
    """
    at = first_of(known.fingerprint, held.fingerprint)
    rows = np.flatnonzero(at >= 0)
    if not len(rows):
        return None
    return problem('leak', (
        f'{len(rows)} of {structures(len(held))} of {where} are in its {source} '
        f'data, too: {equal(known, at[rows], held, rows)}. Errors on them are '
        'meaningless: remove them from one of the two.'
    ), count=len(rows))


def equal(known: Marked, first: Ints, held: Marked, rows: Ints) -> str:
    """Return 'a:3 = b:5, ...' for structures that are the same."""
    return some(
        f'{held.source(int(row))} = {known.source(int(k))}'
        for k, row in zip(first, rows, strict=True)
    )
