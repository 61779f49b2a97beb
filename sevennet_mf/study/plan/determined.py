"""Whether labels of the target tell the energies of what is measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols

from sevennet_mf.arrays import Bools
from sevennet_mf.data.estimator import Support
from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.base import Base
from sevennet_mf.study.plan.label_set import LabelSet, label_order
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.plan.target import Parts


def undetermined(labels: LabelSet, trained: LabelSet, given: Iterable[str]) -> Bools:
    """Return which of some structures have an energy that no label tells, (n,).

    trained: labels of the target in training; given: elements whose reference
    energy is a number of the user's. The same that training asks of its data.
    """
    is_given = np.isin(chemical_symbols, list(given))
    known, kind = trained.kinds()
    fractions = (known / known.sum(axis=1, keepdims=True))[kind]
    compositions, kind = labels.kinds()
    support = Support.of(fractions.T @ fractions, is_given, centred=True)
    unknown: Bools = ~support.tells(compositions)[kind]
    return unknown


def check_test(study: Study, base: Base, parts: Parts) -> str:
    """Raise UserError if training labels cannot tell an energy that is tested.

    Errors of eV per atom would be those of the reference energies. A user who asked
    for it with `anchors: 0` is warned; returned is the warning, or ''.
    """
    unknown = undetermined(parts.test, parts.pool, base.given)
    if not unknown.any():
        return ''
    told = (
        f'{_described(parts, base, unknown)}: their reference energies '
        f'are not determined, and energies are off by eV per atom for every method'
    )
    split = study.split
    if split is not None and split.by == 'element':
        warnings.warn(
            f'study.split: {told}. `anchors: 1` settles it.', stacklevel=2
        )
        return f'{told[0].upper()}{told[1:]}. Forces are not concerned.'
    remedy = 'Take them out, or add one labelled structure to the training data'
    if split is not None:
        remedy = 'Take another `seed`' + (
            ', or list what is trained on as `train`'
            if split.by == 'composition'
            else ''
        )
    where = 'study.test' if split is None else 'study.split'
    raise UserError(f'{where}: {told}. {remedy}.')


def check_counts(study: Study, base: Base, parts: Parts) -> None:
    """Raise UserError if the fewest labels cannot tell what all of them could."""
    fewest = min((n for n in study.labels if n != 'all'), default=len(parts.pool))
    whole = [
        part.where(~undetermined(part, parts.pool, base.given))
        for part in (parts.test, parts.valid)
    ]
    for seed in study.seeds:
        order = label_order(parts.pool, seed, parts.first)
        for n in range(fewest, len(order) + 1):
            few = parts.pool.at(order[:n])
            if not any(undetermined(part, few, base.given).any() for part in whole):
                break
        if n > fewest:
            raise UserError(
                f'study.labels: {fewest} is too few for reference energies of '
                f'{base.target!r}, and errors would be eV per atom: {n} labels tell '
                'those of the structures that are tested and validated on. Write '
                f'{n} or more.'
            )


def _described(parts: Parts, base: Base, unknown: Bools) -> str:
    """Which structures, and what it is that they have."""
    tested, rows = parts.test, np.flatnonzero(unknown)
    first = tested.structures[rows[0]].source
    known = parts.pool.elements.union(base.given)
    lacking = sorted(tested.at(rows).elements - known)
    what = (
        f'hold {", ".join(lacking)}, which no training label of the target has'
        if lacking
        else 'are no combination of compositions that training labels have'
    )
    return f'{len(rows)} of {len(tested)} test structures, the first {first}, {what}'
