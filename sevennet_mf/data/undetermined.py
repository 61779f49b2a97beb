"""Elements and compositions whose reference energy no training label determines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols

from sevennet_mf.arrays import N_SPECIES, Ints
from sevennet_mf.data.dataset import TRAIN, is_validation
from sevennet_mf.data.findings import (
    Finding,
    LabelledSet,
    formula,
    note,
    problem,
    some,
    structures,
)
from sevennet_mf.data.references import References


def undetermined(
    references: References,
    target: str,
    sets: Mapping[str, LabelledSet],
    fitted: Sequence[str] | None = None,
) -> Iterator[Finding]:
    """Yield what no training label determines: problems first, then notes.

    It is a problem where validation data of the target need it: their errors would
    be of the order of eV, whatever is trained.

    Args:
        fitted: the fidelities to check; None: all of them.
    """
    notes: list[Finding] = []
    for name in references.fidelities if fitted is None else fitted:
        lacking, stops = references.undetermined[name], False
        for held, data in sets.items():
            if held == TRAIN or name not in data.fidelities:
                continue
            rows, own = _untold(references, name, data)
            if not len(rows):
                continue
            formulas = dict.fromkeys(map(formula, own))
            what = ', '.join(_in(own, lacking)) or some(formulas)
            first = data.source(int(rows[0]))
            if name == target and is_validation(held):
                stops = True
                yield _needed(name, held, what, len(rows), first)
            elif not _in(own, lacking):
                notes.append(_open(name, held, what, len(rows), first))
        if lacking and not stops:
            notes.append(_absent(name, lacking))
    yield from notes


def _untold(
    references: References, fidelity: str, data: LabelledSet
) -> tuple[Ints, Ints]:
    """The structures whose energies no label tells, and their compositions."""
    rows, own = [np.zeros(0, np.int64)], [np.zeros((0, N_SPECIES), np.int64)]
    for chosen, count in data.compositions(data.rows_of(fidelity)):
        kinds, kind = np.unique(count, axis=0, return_inverse=True)
        is_untold = ~references.determined(kinds, fidelity)[kind.reshape(-1)]
        rows.append(chosen[is_untold])
        own.append(count[is_untold])
    return np.concatenate(rows), np.concatenate(own)


def _in(own: Ints, lacking: Sequence[str]) -> list[str]:
    """Which of the elements any composition of `own`, (k, 119), has."""
    return [s for s in lacking if own[:, chemical_symbols.index(s)].any()]


def _needed(target: str, held: str, what: str, count: int, first: str) -> Finding:
    return problem('not determined', (
        f'{held}: the target {target!r} is not determined for {structures(count)}, '
        f'the first {first}: no training label of {target!r} determines the energy '
        f'of {what}, so errors of eV per atom are certain. Add one labelled '
        'structure, or give numbers in data.fidelity.reference_energies: '
        f'{{{target}: {{...}}}}.'
    ), target, count=count)


def _open(name: str, held: str, what: str, count: int, first: str) -> Finding:
    return note('not determined', (
        f'fidelity {name!r}: none of its training labels determines the energy of '
        f'{what}: energies of {structures(count)} in {held}, the first '
        f'{first}, may be off by eV per atom. One labelled structure is enough.'
    ), name, count=count)


def _absent(name: str, lacking: Sequence[str]) -> Finding:
    return note('not determined', (
        f'fidelity {name!r} has no label that contains {", ".join(lacking)}: not '
        f'determined, energies of such structures may be off by eV at {name!r}. One '
        'labelled structure is enough.'
    ), name, *lacking)


def reference_elements(
    present: Ints,
    given: Mapping[str, Collection[str]],
    species: Collection[int] | None = None,
) -> list[str]:
    """Return the symbols of the elements that reference energies are needed for.

    These are the elements of the data, of given numbers, and of a model made for
    specific elements; the other 100 of a universal model would only be noise.

    Args:
        present: (k,) atomic numbers in the data.
        given: symbols with given numbers, by fidelity.
        species: atomic numbers of such a model.
    """
    made_for = species if species and len(species) < len(chemical_symbols) else ()
    numbers = {*(int(z) for z in present), *made_for}
    named = {symbol for own in given.values() for symbol in own}
    return sorted({chemical_symbols[z] for z in numbers} | named)
