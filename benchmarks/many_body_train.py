"""Do labels of the target that are inferred in different ways help a training?

A training on 100 (Li6PS5Cl) or 300 (InGaN) structures at PBE, N of which have r2SCAN
labels as well; the others get none (`never`), those of pairs whether they are good
enough or not (`pairs`), or those of pairs and node features of 7net-0 (`both`). All
labels are a teacher's, so that the errors of inferred ones are known. Every training
is an ordinary run of `sevennet-mf train`; what is done is not done again.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import many_body_systems as systems
import numpy as np
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from label_choice import run_command
from many_body import structure
from many_body_features import Network
from many_body_fit import ManyBody, Structure

from sevennet_mf.data import extxyz
from sevennet_mf.data.inferred.two_body_fit import fit
from sevennet_mf.data.inferred.two_body_system import Difference

PAPER = Path(__file__).resolve().parent / 'paper'
YAML = {
    'lipscl': PAPER / 'lipscl.yaml',
    'compositions': PAPER / 'ingan_compositions.yaml',
    'geometries': PAPER / 'ingan_compositions.yaml',
}
ARMS = ('never', 'pairs', 'both')
EPOCHS = 10  # of the schedule
ALL = 10**6  # displacements of a structure


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    pool, test = _pairs(options)
    print('| seed | labels | energy | force | inferred: energy | force |')
    print('|---|---|---|---|---|---|')
    for seed in options.seeds:
        for arm in options.arms:
            folder = options.output.resolve() / f'{options.system}_{seed}_{arm}'
            folder.mkdir(parents=True, exist_ok=True)
            chosen = np.random.default_rng(seed).permutation(100)[: options.labels]
            known = [pool[i] for i in chosen]
            rest = [one for i, one in enumerate(pool) if i not in set(chosen)]
            labels = [] if arm == 'never' else _inferred(known, rest, arm, options)
            target = [*(high for _, high in known), *labels]
            extxyz.write(folder / 'pbe.extxyz', [low for low, _ in pool])
            extxyz.write(folder / 'r2scan.extxyz', target)
            extxyz.write(folder / 'test.extxyz', [high for _, high in test])
            found = [*_trained(folder, seed, options), *_off(labels, rest)]
            cells = ' | '.join(f'{value:.1f}' for value in found)
            print(f'| {seed} | {arm} | {cells} |', flush=True)


def _pairs(options: argparse.Namespace) -> tuple[systems.Pairs, systems.Pairs]:
    """The first 100 may have r2SCAN labels in training."""
    if options.system == 'lipscl':
        return systems.lipscl(options.folder, '7net-mf-0', 100, 60)
    rng = np.random.default_rng(0)
    high, every, test = (
        systems.of_teacher(options.folder, *names)
        for names in (('train', options.system), ('train', 'all'), ('test', 'test'))
    )
    pool = [high[i] for i in rng.permutation(len(high))]
    test = [test[i] for i in rng.permutation(len(test))[:60]]
    known = {atoms.info['structure_id'] for atoms, _ in pool}
    rest = [one for one in every if one[0].info['structure_id'] not in known]
    others = np.random.default_rng(5).permutation(len(rest))[:200]
    return [*pool, *(rest[i] for i in others)], test


# ---- labels


def _inferred(
    known: systems.Pairs, rest: systems.Pairs, arm: str, options: argparse.Namespace
) -> list[Atoms]:
    elements = sorted({int(z) for low, _ in known for z in low.numbers})
    network, rng = Network(options.model), np.random.default_rng(0)

    def made(low: Atoms, high: Atoms, most: int) -> Structure:
        return structure(low, high, elements, network, most, options.cutoff, rng)

    fitted = [made(low, high, ALL) for low, high in known]
    differences = [
        Difference(one.edges, one.energy * one.n_atoms, one.forces) for one in fitted
    ]
    pairs = fit(differences, options.cutoff)
    both = ManyBody(fitted, elements, pairs)
    labels = []
    for low, high in rest:
        one = made(low, high, 0)
        if arm == 'pairs':
            energy = pairs.model.energy(one.edges)
            forces, strain = pairs.model.derivatives(one.edges)
        else:
            energy = both.predict(one)[0] * one.n_atoms
            forces, strain = both.derivatives(low, one, network)
        stress = strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / low.get_volume()
        copy = low.copy()
        copy.calc = SinglePointCalculator(
            copy,
            energy=low.get_potential_energy() + energy,
            forces=low.get_forces() + forces,
            stress=low.get_stress() + stress,
        )
        labels.append(copy)
    return labels


def _off(labels: list[Atoms], rest: systems.Pairs) -> tuple[float, float]:
    """RMS errors of labels, meV/atom and meV/Å."""
    if not labels:
        return np.nan, np.nan
    energies, forces = [], []
    for one, (_, high) in zip(labels, rest, strict=True):
        energy = one.get_potential_energy() - high.get_potential_energy()
        energies.append([energy / len(one)])
        forces.append((one.get_forces() - high.get_forces()).ravel())
    values = np.concatenate(energies), np.concatenate(forces)
    energy, force = (1000 * float(np.sqrt(np.mean(np.square(x)))) for x in values)
    return energy, force


# ---- training


def _trained(
    folder: Path, seed: int, options: argparse.Namespace
) -> tuple[float, float]:
    """Mean absolute errors on the test set, meV/atom and meV/Å."""
    sections = yaml.safe_load(YAML[options.system].read_text(encoding='utf-8'))
    sections['train'].update(random_seed=seed, epoch=EPOCHS, per_epoch=EPOCHS)
    sections['train']['fidelity']['steps_per_epoch'] = options.steps // EPOCHS
    data = sections['data']
    data['fidelity'] = {'order': ['pbe', 'r2scan'], 'inferred_labels': 'never'}
    data['load_trainset_path'] = [
        {'file': f'{name}.extxyz', 'fidelity': name} for name in ('pbe', 'r2scan')
    ]
    data['load_validset_path'] = [
        {'file': 'test.extxyz', 'fidelity': 'r2scan', 'index': ':2'}
    ]
    text = yaml.safe_dump(sections, sort_keys=False)
    (folder / 'input.yaml').write_text(text, encoding='utf-8')
    checkpoint = f'checkpoint_{EPOCHS}.pth'
    if not (folder / checkpoint).is_file():
        train = ['train', 'input.yaml', '-w', '.']
        run_command(train, folder, folder / 'train.txt')
    test = ['evaluate', checkpoint, 'test.extxyz', '-f', 'r2scan', '-o', 'test']
    run_command(test, folder, folder / 'evaluate.txt')
    table = folder / 'test' / 'errors.csv'
    with open(table, newline='', encoding='utf-8') as stream:
        (row,) = csv.DictReader(stream)
    return float(row['energy_MAE (meV/atom)']), float(row['force_MAE (meV/Å)'])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('system', choices=list(YAML))
    add('folder', type=Path, help='written by the scripts of the example')
    add('-o', '--output', type=Path, default=Path('many_body'), help='folder')
    add('--labels', type=int, default=10, help='structures with r2SCAN labels')
    add('--seeds', type=int, nargs='+', default=[1, 2], metavar='SEED')
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--steps', type=int, default=1000, help='of each training (default: 1000)')
    add('--model', default='7net-0', help='whose node features (default: 7net-0)')
    add('--cutoff', type=float, default=4.0, help='Å, of the pairs; Li6PS5Cl: 5')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    main()
