"""The training set as training will have it: divided, and with inferred labels."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.audit.checks import pairs_of
from sevennet_mf.audit.findings import Report
from sevennet_mf.audit.scan import Records
from sevennet_mf.data.build import load_or_build
from sevennet_mf.data.dataset import (
    TRAIN,
    FidelityDataset,
    check_ratio,
    validated,
)
from sevennet_mf.data.inferred.infer import FEWEST, infer_from, sources_of
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.unread import UnreadLabel
from sevennet_mf.errors import UserError

VALID: Final[str] = 'validset'
MANY: Final[int] = 20_000  # structures whose graphs take minutes to make


def divide(records: Records, ratio: float, seed: int, report: Report) -> Records:
    """Return the records with `data_divide_ratio` of the training set held out."""
    rows = records.rows(set=TRAIN)
    if ratio <= 0.0 or not len(rows):
        return records
    try:
        check_ratio(records.sets, ratio)
    except UserError as error:
        report('no validation', 'problem', str(error))
        return records
    is_valid = validated(
        records['fidelity'][rows], records['fingerprint'][rows], ratio, seed
    )
    if not is_valid.any():
        report('no validation', 'problem', (
            f'data.data_divide_ratio: {ratio} of the training set is no structure '
            'at all. Raise it, or give load_validset_path.'
        ))
        return records
    sets = records['set'].copy()
    sets[rows[is_valid]] = len(records.sets)
    columns = {**records.columns, 'set': sets}
    return replace(records, sets=(*records.sets, VALID), columns=columns)


def inferred(
    records: Records,
    entries: Sequence[Entry],
    options: Mapping[str, Any],
    target: str,
    cutoff: float,
    report: Report,
) -> tuple[Ints, Floats]:
    """Return the labels of the target that training will infer.

    entries: of the training set; options: `data.fidelity`; cutoff: Å. (k,) rows of
    lower fidelities and (k,) energies of the target in eV, total.
    """
    none = np.zeros(0, np.int64), np.zeros(0)
    base, asked = options['base'], options['inferred_labels']
    names = records.fidelities
    if asked == 'never' or base == target or not {base, target} <= set(names):
        return none
    train = records.rows(set=TRAIN)
    others = [name for name in names if name != target]
    paired = [np.isin(pairs_of(records, n, target)[0], train).sum() for n in others]
    if max(paired) < FEWEST:
        return none
    if len(train) > MANY:
        report('references', 'note', (
            f'reference energies of {target} are those of its computed labels '
            f'alone: which labels training infers is not tried for more than {MANY} '
            'structures.'
        ))
        return none
    with tempfile.TemporaryDirectory(
        prefix='graphs_', ignore_cleanup_errors=True
    ) as folder:
        try:
            dataset = FidelityDataset(
                [
                    load_or_build(entry, options['key'], names, cutoff, Path(folder))
                    for entry in entries
                ],
                names,
            )
        except UserError as error:  # at which training stops: that is said already
            report('references', 'note', _not_inferred(target, error))
            return none
        # one file may hold labels of several fidelities
        known = {
            (records.source(int(row)), int(records['fidelity'][row])): int(row)
            for row in train
        }
        found_as = zip(dataset.sources(), dataset.fidelity_index, strict=True)
        rows = np.array([known.get((s, int(f)), -1) for s, f in found_as], np.int64)
        here = np.flatnonzero(rows >= 0)
        subset = dataset.subset(here)
        sources = sources_of(options['order'] or names, base, target, subset)
        found = infer_from(subset, sources, target, cutoff, asked == 'always')
        del dataset, subset  # they hold files of the folder that goes now
    labelled = np.concatenate([one.rows for one in found])
    return rows[here][labelled], np.concatenate([one.energy for one in found])


def _not_inferred(target: str, error: UserError) -> str:
    """Why reference energies are not those that training fits, and the remedy."""
    remedy = 'Correct or remove what cannot be used'
    if isinstance(error, UnreadLabel):
        remedy = 'Name the labels that nothing reads, or leave them out'
    return (
        f'reference energies of {target} are those of its computed labels alone: '
        'training may infer more, which cannot be tried as long as it stops at '
        f'these data. {remedy}, and inspect again.'
    )
