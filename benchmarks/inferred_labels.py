"""How many paired structures do inferred labels take, and how far are they off?

Out of 47 In(x)Ga(1-x)N structures with r2SCAN labels, N drawn at random keep them;
the others' are inferred from PBE, and compared with what was computed. A choice
gives labels only if structures left out of the fit bear it out. Nothing is trained:
240 fits take three minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.data.inferred.infer import infer_labels

DATA = Path(__file__).resolve().parents[1] / 'tests' / 'data' / 'ingan'
LOW, HIGH = 'pbe', 'r2scan'
FILES = {'pbe_train': LOW, 'pbe_valid': LOW, 'r2scan_pool': HIGH}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:  # graphs are read from it
        whole = _structures(options.cutoff, Path(folder))
        print('| paired | choices that give labels | inferred | energy | force |')
        print('|---|---|---|---|---|')
        for n in options.labels:
            found = [
                _errors(whole, n, seed, options.cutoff)
                for seed in range(options.choices)
            ]
            print(_line(n, [one for one in found if len(one)], options.choices))


def _structures(cutoff: float, folder: Path) -> FidelityDataset:
    listed = [
        {'file': [str(DATA / f'{name}.extxyz')], 'fidelity': fidelity, 'index': ':'}
        for name, fidelity in FILES.items()
    ]
    config = {
        KEY.CUTOFF: cutoff,
        KEY.MODAL_MAP: {LOW: 0, HIGH: 1},
        keys.FIDELITY_DATA: {'order': [LOW, HIGH], 'key': None},
        'load_trainset_path': listed,
    }
    return build_datasets(config, folder)['trainset']


def _errors(whole: FidelityDataset, n: int, seed: int, cutoff: float) -> np.ndarray:
    """(inferred, 2) of those with a computed label: eV/atom, and eV/Å (RMS)."""
    computed = {whole.fingerprint[i]: i for i in whole.rows_of(HIGH)}
    order = np.random.default_rng(seed).permutation(whole.rows_of(HIGH))
    few = whole.subset(np.concatenate([whole.rows_of(LOW), order[:n]]))
    train = infer_labels(few, LOW, HIGH, cutoff).added_to(few)
    errors = []
    for i in np.flatnonzero(train.inferred):
        true = computed.get(train.fingerprint[i])
        if true is None:
            continue
        energy = (train.energy[i] - whole.energy[true]) / whole.n_atoms[true]
        force = train[int(i)][KEY.FORCE] - whole[true][KEY.FORCE]
        errors.append((energy, force.square().mean().sqrt().item()))
    return np.array(errors)


def _line(n: int, found: list[np.ndarray], choices: int) -> str:
    share = f'| {n} | {len(found)} of {choices} |'
    if not found:
        return f'{share} – | – | – |'
    count = np.mean([len(one) for one in found])
    energy, force = 1000 * np.sqrt(
        np.mean([np.square(one).mean(axis=0) for one in found], axis=0)
    )
    return f'{share} {count:.1f} of {47 - n} | {energy:.1f} | {force:.0f} |'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--labels', type=int, nargs='+', default=[4, 5, 6, 8, 12, 20], metavar='N')
    add('--choices', type=int, default=40, help='random ones of each N')
    add('--cutoff', type=float, default=4.0, help='Å, of the graphs (default: 4)')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    main()
