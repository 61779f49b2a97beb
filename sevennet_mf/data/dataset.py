"""The data sets of a run: which there are, and whether they fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from sevenn import _keys as KEY

from sevennet_mf import keys
from sevennet_mf.arrays import Bools, Ints
from sevennet_mf.data.build import load_or_build
from sevennet_mf.data.identity import first_of
from sevennet_mf.data.identity import nearest as nearest_writing
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.structures import FidelityDataset, FidelityGraph
from sevennet_mf.errors import UserError, nearest

__all__ = [
    'FidelityDataset',
    'FidelityGraph',
    'build_datasets',
    'check_coverage',
    'check_elements',
    'check_ratio',
    'is_validation',
    'pair_index',
    'random_split',
    'split_by_fidelity',
]

TRAIN = 'trainset'
DRIFT = 'drift'  # what old fidelities are watched on
FOLDER = 'sevenn_data'  # the host's name for processed data


def build_datasets(
    config: Mapping[str, Any],
    working_dir: str | Path,
    rank: int = 0,
    barrier: Callable[[], None] | None = None,
) -> dict[str, FidelityDataset]:
    """Return the data sets of a run by name: 'trainset', 'validset', ...

    config: the host's merged configuration, whose `load_*_path` are entries as
    read.read_entry takes them; it is not changed. Of several processes rank 0 works
    while the others wait at `barrier`; they find its files, or, on a machine that
    does not see them, make their own. Raises UserError for data that cannot be used.
    """
    waits = barrier is not None and rank != 0
    if barrier is not None and waits:
        barrier()
    try:
        return {
            _set_name(name): _build(entries, config, Path(working_dir))
            for name, entries in config.items()
            if name.startswith('load_') and name.endswith('_path') and entries
        }
    finally:  # the others would wait forever for a rank that failed
        if barrier is not None and not waits:
            barrier()


def _set_name(load_path: str) -> str:
    return '_'.join(part.strip() for part in load_path.split('_')[1:-1])


def _build(
    entries: Entry | Sequence[Entry], config: Mapping[str, Any], working_dir: Path
) -> FidelityDataset:
    listed = [entries] if isinstance(entries, Mapping) else entries
    options = config.get(keys.FIDELITY_DATA) or {}
    modal_map = config.get(KEY.MODAL_MAP)
    fidelities = keys.by_index(modal_map) if modal_map else options['order']
    parts = [
        load_or_build(
            entry,
            options.get('key'),
            fidelities,
            config[KEY.CUTOFF],
            working_dir / FOLDER,
            config.get(KEY.PREPROCESS_NUM_CORES, 1),
        )
        for entry in listed
    ]
    return FidelityDataset(parts, fidelities)


def split_by_fidelity(
    name: str, dataset: FidelityDataset
) -> dict[str, FidelityDataset]:
    """Return {'validset_pbe': ..., ...}, for fidelities that have structures."""
    found = {f: dataset.rows_of(f) for f in dataset.fidelities}
    return {f'{name}_{f}': dataset.subset(r) for f, r in found.items() if len(r)}


def random_split(
    dataset: FidelityDataset, ratio: float, seed: int, spared: Ints | None = None
) -> tuple[FidelityDataset, FidelityDataset]:
    """Return a training and a validation part, the latter `ratio` of each fidelity.

    spared: fingerprints of structures that are validated on only if the others are
    too few.
    """
    is_valid = validated(
        dataset.fidelity_index, dataset.fingerprint, ratio, seed, spared
    )
    train, valid = np.flatnonzero(~is_valid), np.flatnonzero(is_valid)
    return dataset.subset(train), dataset.subset(valid)


def validated(
    fidelity: Ints,
    fingerprint: Ints,
    ratio: float,
    seed: int,
    spared: Ints | None = None,
) -> Bools:
    """Return which structures `data_divide_ratio` takes, `ratio` of each fidelity.

    fidelity, fingerprint: (n,), as of FidelityDataset. All labels of one structure
    go to the same part, so that none is validated on what was trained on at another
    fidelity. spared: as of random_split.
    """
    count = np.bincount(fidelity)
    left = np.rint(count * ratio).astype(np.int64)
    marks, group = np.unique(fingerprint, return_inverse=True)
    members = np.split(
        np.argsort(group, kind='stable'), np.cumsum(np.bincount(group))[:-1]
    )
    # at random, but those of the rarest fidelity first: later on their pairs might
    # find the other fidelity's share taken
    chance = np.random.default_rng(seed).permutation(len(marks))
    rarest = [count[fidelity[m]].min() for m in members]
    is_spared = np.isin(marks, [] if spared is None else spared)
    is_valid = np.zeros(len(fidelity), bool)
    for k in np.lexsort((chance, rarest, is_spared)):
        needs = np.bincount(fidelity[members[k]], minlength=len(count))
        if (needs <= left).all():
            left -= needs
            is_valid[members[k]] = True
    return is_valid


def is_validation(name: str) -> bool:
    """Whether a set may pick the best checkpoint."""
    words = name.split('_')
    no = name in (TRAIN, DRIFT) or any(word.startswith('test') for word in words)
    return not no


def check_ratio(sets: Iterable[str], ratio: float) -> None:
    """UserError if `data_divide_ratio` stands beside a validation set."""
    given = [name for name in sets if is_validation(name)]
    if given and ratio > 0:
        raise UserError(
            f'data.data_divide_ratio: {ratio} and load_{given[0]}_path both give a '
            'validation set. Remove one of them.'
        )


def pair_index(dataset: FidelityDataset, base: str, fidelity: str) -> Ints:
    """Return for each structure of `fidelity` the same one among those of `base`.

    Positions count within `dataset.rows_of(base)`; -1 where there is none, the
    nearest where there are several. What references.Labels takes as `pair`.
    """
    low, high = dataset.rows_of(base), dataset.rows_of(fidelity)
    marks, wanted = dataset.fingerprint[low], dataset.fingerprint[high]
    found = first_of(marks, wanted)
    known, count = np.unique(marks, return_counts=True)
    for at in np.flatnonzero(np.isin(wanted, known[count > 1])):
        rows = np.flatnonzero(marks == wanted[at])
        others = (dataset.geometry(int(k)) for k in low[rows])
        found[at] = rows[nearest_writing(dataset.geometry(int(high[at])), others)]
    return found


def doubtful_base(count: Mapping[str, int], base: str) -> str:
    """Return what to say of a base that is the rarest fidelity by default, or ''.

    count: training structures by fidelity, in the order that the files gave.
    """
    others = {name: n for name, n in count.items() if name != base and n}
    if not others or count[base] >= min(others.values()):
        return ''
    order = sorted(count, key=lambda name: -count[name])
    return (
        f'{base!r} is the base and {list(count)[-1]!r} the target, because '
        f'load_trainset_path names them first and last, but {base!r} has the fewest '
        f'structures: {count[base]}, while {_counted(others)}. If it is the higher '
        f'level of theory, write data.fidelity.order: [{", ".join(order)}].'
    )


def _counted(count: Mapping[str, int]) -> str:
    return ', '.join(f'{name!r} has {n}' for name, n in count.items())


def check_coverage(
    train: FidelityDataset,
    order: Sequence[str],
    target: str,
    loss_weight: Mapping[str, Any] | str,
    sampling: Mapping[str, Any] | str,
) -> list[str]:
    """Return the fidelities of `order` that have no training structure.

    Raises UserError if one of them is the target or has a weight or a share, and if
    a fidelity with structures has no share.
    """
    count = {name: len(train.rows_of(name)) for name in train.fidelities}
    known = list(dict.fromkeys([*order, *train.fidelities]))
    covered = [name for name in known if count.get(name)]
    named: list[tuple[str, str]] = [('train.fidelity.target', target)]
    for key, value in (('loss_weight', loss_weight), ('sampling', sampling)):
        if isinstance(value, Mapping):
            named += [(f'train.fidelity.{key}', name) for name in value]
    for key, name in named:
        if name not in covered:
            raise UserError(
                f'{key} names {name!r}, but data.load_trainset_path has no '
                f'structure of it, only of {covered}.{nearest(name, covered)} Add '
                f'its data, or take it out of {key}.'
            )
    if isinstance(sampling, Mapping):
        for name in covered:
            if name not in sampling:
                raise UserError(
                    f'train.fidelity.sampling has no share for {name!r}, which has '
                    f'{count[name]} structures. Give it one, or take its data out.'
                )
    return [name for name in order if not count.get(name)]


def check_elements(dataset: FidelityDataset, known_numbers: Sequence[int]) -> None:
    """Raise UserError for an element that the model does not know.

    known_numbers: atomic numbers of the model's elements.
    """
    known = np.zeros(len(chemical_symbols), bool)
    known[list(known_numbers)] = True
    foreign = dataset.composition[:, ~known]
    rows = np.flatnonzero(foreign.any(axis=1))
    if len(rows) == 0:
        return
    numbers = np.flatnonzero(~known)[foreign.any(axis=0)]
    unknown = ', '.join(chemical_symbols[z] for z in numbers)
    names = ', '.join(chemical_symbols[z] for z in np.flatnonzero(known))
    raise UserError(
        f'{dataset.source(int(rows[0]))}: the model does not know {unknown}, in '
        f'{len(rows)} structures; it knows {names}. Take them out, or add '
        'the elements to model.chemical_species and train a new model.'
    )
