"""The data sets of a run: which there are, and how they are divided and paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sevenn import _keys as KEY

from sevennet_mf import keys
from sevennet_mf.arrays import Bools, Ints
from sevennet_mf.data.build import load_or_build
from sevennet_mf.data.identity import partners
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.structures import FidelityDataset, FidelityGraph

__all__ = [
    'FidelityDataset',
    'FidelityGraph',
    'build_datasets',
    'is_validation',
    'pair_index',
    'random_split',
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

    With several processes rank 0 works while the others wait at `barrier` and then
    read its files, or, on a machine that does not see them, write their own.

    Args:
        config: the host's merged configuration, whose `load_*_path` are entries as
            read.read_entry takes them; it is not changed.

    Raises:
        UserError: The data cannot be used.
    """
    waits = barrier is not None and rank != 0
    if barrier is not None and waits:
        barrier()
    try:
        return {
            name: _build(entries, config, Path(working_dir))
            for name, entries in sets_of(config).items()
        }
    finally:  # the others would wait forever for a rank that failed
        if barrier is not None and not waits:
            barrier()


def sets_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of every `load_<name>_path` of a configuration by name."""
    return {
        name.removeprefix('load_').removesuffix('_path'): entries
        for name, entries in config.items()
        if name.startswith('load_') and name.endswith('_path') and entries
    }


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


def random_split(
    dataset: FidelityDataset, ratio: float, seed: int, spared: Ints | None = None
) -> tuple[FidelityDataset, FidelityDataset]:
    """Return a training and a validation part, the latter `ratio` of each fidelity.

    Args:
        spared: fingerprints of structures that are used for validation only if there
            are too few others.
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
    """Return which structures `data_divide_ratio` selects, `ratio` per fidelity.

    All labels of a structure go to the same part, so that no structure used for
    validation is trained on at another fidelity.

    Args:
        fidelity, fingerprint: (n,), as of FidelityDataset.
        spared: as for random_split.

    Returns:
        (n,) bool.
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
    """Return whether a set may select the best checkpoint."""
    words = name.split('_')
    no = name in (TRAIN, DRIFT) or any(word.startswith('test') for word in words)
    return not no


def pair_index(dataset: FidelityDataset, base: str, fidelity: str) -> Ints:
    """Return for each structure of `fidelity` the same one among those of `base`.

    Returns:
        Positions within `dataset.rows_of(base)`, -1 where there is none, the nearest
        where there are several; references.Labels takes them as `pair`.
    """
    low, high = dataset.rows_of(base), dataset.rows_of(fidelity)
    marks = dataset.fingerprint
    return partners(marks[low], low, marks[high], high, dataset.geometry)
