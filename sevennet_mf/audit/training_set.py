"""The training set as training will have it: divided, completed, with references."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.audit.records import Records
from sevennet_mf.config.blocks import DataFidelity
from sevennet_mf.data.checks import nothing_held_out
from sevennet_mf.data.dataset import TRAIN, FidelityDataset, is_validation, validated
from sevennet_mf.data.findings import Finding, note, problem
from sevennet_mf.data.inferred.infer import FEWEST, infer_from, sources_of
from sevennet_mf.data.needs import Needs
from sevennet_mf.data.processed.build import load_or_build
from sevennet_mf.data.reading.unread_labels import UnreadLabel
from sevennet_mf.data.references import References, fit_references
from sevennet_mf.data.undetermined import reference_elements
from sevennet_mf.errors import UserError

VALID: Final[str] = 'validset'
MANY: Final[int] = 20_000  # structures whose graphs take minutes to make

Inferred = tuple[Ints, Floats]  # rows, and their energies in eV


def divide(
    records: Records, ratio: float, seed: int
) -> tuple[Records, Finding | None]:
    """Return the records with `data_divide_ratio` of the training set held out."""
    rows = records.rows(set=TRAIN)
    if ratio <= 0.0 or not len(rows) or any(map(is_validation, records.sets)):
        return records, None
    is_valid = validated(
        records['fidelity'][rows], records['fingerprint'][rows], ratio, seed
    )
    if not is_valid.any():
        return records, nothing_held_out(ratio)
    sets = records['set'].copy()
    sets[rows[is_valid]] = len(records.sets)
    columns = {**records.columns, 'set': sets}
    return replace(records, sets=(*records.sets, VALID), columns=columns), None


def inferred(
    records: Records, needs: Needs, options: DataFidelity
) -> tuple[Inferred, Finding | None]:
    """Return the labels of the target that training will infer.

    Args:
        options: The block `data.fidelity`.

    Returns:
        (k,) rows of lower fidelities with (k,) energies of the target in eV,
        total; and a finding if they could not be inferred.
    """
    none = np.zeros(0, np.int64), np.zeros(0)
    base, target, asked = needs.base, needs.target, options.inferred_labels
    names = records.fidelities
    if asked == 'never' or base == target or not {base, target} <= set(names):
        return none, None
    train = records.rows(set=TRAIN)
    others = [name for name in names if name != target]
    paired = [np.isin(records.pairs(n, target)[0], train).sum() for n in others]
    if max(paired) < FEWEST:
        return none, None
    if len(train) > MANY:
        return none, note('references', (
            f'the reference energies of {target} do not include inferred labels, '
            f'because inference is not tried here for more than {MANY} structures.'
        ), target)
    with tempfile.TemporaryDirectory(
        prefix='graphs_', ignore_cleanup_errors=True
    ) as folder:
        try:
            parts = [
                load_or_build(e, options.key, names, needs.cutoff, Path(folder))
                for e in needs.entries
            ]
        except UserError as error:  # at which training stops: that is said already
            return none, note('references', _not_inferred(target, error), target)
        return _inferred(records, train, parts, needs, asked == 'always'), None


def _inferred(
    records: Records, train: Ints, parts: Sequence[Any], needs: Needs, always: bool
) -> Inferred:
    """The same of processed entries, whose files are gone afterwards."""
    dataset = FidelityDataset(parts, records.fidelities)
    # one file may hold labels of several fidelities
    known = {
        (records.source(int(row)), int(records['fidelity'][row])): int(row)
        for row in train
    }
    found_as = zip(dataset.sources(), dataset.fidelity_index, strict=True)
    rows = np.array([known.get((s, int(f)), -1) for s, f in found_as], np.int64)
    here = np.flatnonzero(rows >= 0)
    subset = dataset.subset(here)
    sources = sources_of(needs.order, needs.base, needs.target, subset)
    found = infer_from(subset, sources, needs.target, needs.cutoff, always)
    labelled = np.concatenate([one.rows for one in found])
    return rows[here][labelled], np.concatenate([one.energy for one in found])


def _not_inferred(target: str, error: UserError) -> str:
    """Why reference energies are not those that training fits, and the remedy."""
    remedy = 'Correct or remove the unusable structures'
    if isinstance(error, UnreadLabel):
        remedy = 'Name the labels that no key reads, or leave them out'
    return (
        f'the reference energies of {target} do not include inferred labels, '
        'because inference cannot be tried on data at which training stops. '
        f'{remedy}, and inspect again.'
    )


def fit_training(
    records: Records,
    needs: Needs,
    method: str | Mapping[str, Mapping[str, float]],
    more: Inferred | None,
) -> tuple[References | None, Finding | None]:
    """Fit reference energies as training does.

    Args:
        more: The labels of the target that training infers.

    Returns:
        The references, None if they cannot be fitted; and a finding that says why.
    """
    rows = {name: records.rows(name, TRAIN) for name in records.fidelities}
    names = [name for name in rows if len(rows[name]) or needs.given.get(name)]
    held = [name for name in names if len(rows[name])]
    if not held:
        return None, None
    base = needs.base if needs.base in names else held[0]
    labels = {}
    for name in names:
        own, energy = rows[name], records['energy'][rows[name]]
        if more is not None and name == needs.target:
            own = np.concatenate([own, more[0]])
            energy = np.concatenate([energy, more[1]])
        labels[name] = records.labels(own, energy, records.partners(rows[base], own))
    if not isinstance(method, str):
        method = {name: method[name] for name in method if name in names}
    # a model that fidelities are added to has references of its other elements
    species = needs.species if not needs.old else None
    present = records.numbers(records.rows())
    elements = reference_elements(present, needs.given, species)
    try:
        return fit_references(labels, base, elements, method), None
    except UserError as error:
        return None, problem('references', str(error))
