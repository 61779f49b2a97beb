"""The data sets of a run: which there are, and how they are divided and paired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sevenn import _keys as KEY

from sevennet_mf import keys
from sevennet_mf.arrays import Bools, Floats, Ints
from sevennet_mf.data.processed.build import Processing
from sevennet_mf.data.processed.cache import Cached, CacheRecipe
from sevennet_mf.data.references import Labels
from sevennet_mf.data.same.identity import partners
from sevennet_mf.data.structures import FidelityDataset, FidelityGraph

__all__ = [
    'FidelityDataset',
    'FidelityGraph',
    'build_datasets',
    'is_validation',
    'labels_in',
    'pair_index',
    'random_split',
]

TRAIN = 'trainset'
DRIFT = 'drift'  # what old fidelities are watched on
FOLDER = 'sevenn_data'  # the host's name for processed data

Recipes: TypeAlias = dict[str, list[CacheRecipe]]  # of the entries of each set


def build_datasets(
    config: Mapping[str, Any],
    working_dir: str | Path,
    share: Callable[[Callable[[], Recipes]], Recipes] | None = None,
) -> dict[str, FidelityDataset]:
    """Return the data sets of a run by name: 'trainset', 'validset', ...

    With several processes the first one reads all files while the others wait. They
    are told what it found, and read its processed data, or, on a machine that does
    not see them, write their own.

    Args:
        config: the host's merged configuration, whose `load_*_path` are entries as
            read.read_entry takes them; it is not changed.
        share: returns on all processes what its argument returns on the first, as
            Process.share; None: there is one process.

    Raises:
        UserError: The data cannot be used.
    """
    how = _how(config, Path(working_dir))
    listed = {
        name: [entries] if isinstance(entries, Mapping) else entries
        for name, entries in sets_of(config).items()
    }

    opened: dict[str, list[Cached]] = {}  # of each set, by this process

    def open_set(name: str, recipes: list[CacheRecipe]) -> None:
        opened[name] = [*map(how.load_or_build, listed[name], recipes)]

    def processed() -> Recipes:
        recipes = {}
        for name, entries in listed.items():
            recipes[name] = [how.recipe_of(entry) for entry in entries]
            open_set(name, recipes[name])
        return recipes

    recipes = processed() if share is None else share(processed)
    for name in listed:
        if name not in opened:  # the first process did
            open_set(name, recipes[name])
    return {name: FidelityDataset(opened[name], how.fidelities) for name in listed}


def sets_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of every `load_<name>_path` of a configuration by name."""
    return {
        name.removeprefix('load_').removesuffix('_path'): entries
        for name, entries in config.items()
        if name.startswith('load_') and name.endswith('_path') and entries
    }


def _how(config: Mapping[str, Any], working_dir: Path) -> Processing:
    """How a configuration wants entries to be read."""
    options = config.get(keys.FIDELITY_DATA) or {}
    modal_map = config.get(KEY.MODAL_MAP)
    return Processing(
        key=options.get('key'),
        fidelities=keys.by_index(modal_map) if modal_map else options['order'],
        cutoff=config[KEY.CUTOFF],
        folder=working_dir / FOLDER,
        cores=config.get(KEY.PREPROCESS_NUM_CORES, 1),
        keeps_graphs=options.get('cache', True),
    )


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
    order = np.argsort(group, kind='stable')  # the structures, group after group
    ends = np.cumsum(np.bincount(group))
    starts = np.concatenate([[0], ends])[: len(ends)]
    # at random, but those of the rarest fidelity first: later on their pairs might
    # find the other fidelity's share taken
    chance = np.random.default_rng(seed).permutation(len(marks))
    of_rarest = np.minimum.reduceat(count[fidelity[order]], starts)
    is_spared = np.isin(marks, [] if spared is None else spared)
    is_valid = np.zeros(len(fidelity), bool)
    for k in np.lexsort((chance, of_rarest, is_spared)):
        if not left.any():
            break
        members = order[starts[k] : ends[k]]
        needs = np.bincount(fidelity[members], minlength=len(count))
        if (needs <= left).all():
            left -= needs
            is_valid[members] = True
    return is_valid


def is_validation(name: str) -> bool:
    """Return whether a set may select the best checkpoint."""
    words = name.split('_')
    no = name in (TRAIN, DRIFT) or any(word.startswith('test') for word in words)
    return not no


def labels_in(
    dataset: FidelityDataset,
    rows: Ints | None = None,
    pair: Ints | None = None,
    model_energy: Floats | None = None,
) -> Iterator[Labels]:
    """Yield the energies of structures in parts, to fit reference energies to.

    Args:
        rows: (n,) the structures; None: all of them.
        pair, model_energy: (n,), as in Labels.
    """
    start = 0
    for chosen, composition in dataset.compositions(rows):
        part = slice(start, start + len(chosen))
        start += len(chosen)
        yield Labels(
            composition,
            dataset.energy[chosen],
            None if pair is None else pair[part],
            None if model_energy is None else model_energy[part],
        )


def pair_index(dataset: FidelityDataset, base: str, fidelity: str) -> Ints:
    """Return for each structure of `fidelity` the same one among those of `base`.

    Returns:
        Positions within `dataset.rows_of(base)`, -1 where there is none, the nearest
        where there are several; references.Labels takes them as `pair`.
    """
    low, high = dataset.rows_of(base), dataset.rows_of(fidelity)
    marks = dataset.fingerprint
    return partners(marks[low], low, marks[high], high, dataset.geometry)
