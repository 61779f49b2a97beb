"""Whether target labels determine the energies of the test structures."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols

from sevennet_mf.arrays import Bools
from sevennet_mf.data.estimator import Support
from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.input_yaml import Base
from sevennet_mf.study.plan.label_set import LabelSet, label_order
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.plan.target_labels import Parts


def undetermined(labels: LabelSet, trained: LabelSet, given: Iterable[str]) -> Bools:
    """Return which structures have an energy that labels do not determine.

    Training applies the same criterion to its data.

    Args:
        labels: The n structures in question.
        trained: Labels of the target in training.
        given: Elements whose reference energy is given as a number.

    Returns:
        (n,) true where the energy is not determined.
    """
    is_given = np.isin(chemical_symbols, list(given))
    known, kind = trained.kinds()
    fractions = (known / known.sum(axis=1, keepdims=True))[kind]
    compositions, kind = labels.kinds()
    support = Support.of(fractions.T @ fractions, is_given, centred=True)
    unknown: Bools = ~support.tells(compositions)[kind]
    return unknown


def check_test(study: Study, base: Base, parts: Parts) -> str:
    """Check that training labels determine the energies of the test structures.

    If not, errors of several eV per atom come from the reference energies. With
    `anchors: 0`, which asks for this, it is a warning.

    Returns:
        The warning, or ''.

    Raises:
        UserError: If an energy is not determined.
    """
    unknown = undetermined(parts.test, parts.pool, base.given)
    if not unknown.any():
        return ''
    told = (
        f'{_described(parts, base, unknown)}: their reference energies '
        f'are not determined, and energies are wrong by several eV per atom for '
        f'every method'
    )
    split = study.split
    if split is not None and split.by == 'element':
        warnings.warn(
            f'study.split: {told}. `anchors: 1` solves this.', stacklevel=2
        )
        return f'{told[0].upper()}{told[1:]}. Forces are not affected.'
    remedy = 'Remove them, or add one labelled structure to the training data'
    if split is not None:
        remedy = 'Choose another `seed`' + (
            ', or list the formulas to train on under `train`'
            if split.by == 'composition'
            else ''
        )
    where = 'study.test' if split is None else 'study.split'
    raise UserError(f'{where}: {told}. {remedy}.')


def check_counts(study: Study, base: Base, parts: Parts) -> None:
    """Check that the smallest number of labels determines what all labels do.

    Raises:
        UserError: If it does not.
    """
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
                f'study.labels: {fewest} are too few to determine the reference '
                f'energies of {base.target!r}: errors would be several eV per atom. '
                f'At least {n} labels are needed.'
            )


def _described(parts: Parts, base: Base, unknown: Bools) -> str:
    """Which structures, and what is special about them."""
    tested, rows = parts.test, np.flatnonzero(unknown)
    first = tested.structures[rows[0]].source
    known = parts.pool.elements.union(base.given)
    lacking = sorted(tested.at(rows).elements - known)
    what = (
        f'contain {", ".join(lacking)}, which no training label of the target has'
        if lacking
        else 'are not a combination of compositions in the training labels'
    )
    return f'{len(rows)} of {len(tested)} test structures, the first {first}, {what}'
