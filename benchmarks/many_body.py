"""Is a many-body difference better than the two-body one of inferred labels?

N of the structures with labels at two levels are fitted, and the differences of
others are predicted and compared. There are four forms: reference energies alone;
pairs, as of inferred labels; node features of 7net-0 (`many_body_fit.py`); and both
at once. Nothing is trained. Without options, this takes r2SCAN labels of InGaN and
CCSD(T) energies of molecules; labels of a teacher need the structures of
`example_inputs/ingan_teacher` or `example_inputs/lipscl`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import many_body_systems as systems
import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from many_body_features import Network, directions_of, edges_of
from many_body_fit import ManyBody, Structure

from sevennet_mf.arrays import Floats
from sevennet_mf.data.inferred.two_body_fit import fit
from sevennet_mf.data.inferred.two_body_system import Difference, element_energies

FORMS = ('no difference', 'pairs', 'features', 'both')
OWN = {'ingan': systems.ingan, 'molecules': systems.molecules}
STUDIES = ('compositions', 'geometries')  # of the teacher's InGaN
TEACHERS = {'lipscl': '7net-mf-0', 'lipscl_chgnet': 'chgnet'}
TEST_DIRECTIONS = 16  # along which forces of a structure are compared


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    network = Network(options.model)
    print(f'| system | fitted | {" | ".join(FORMS)} | both, left out | deviation |')
    print('|---' * (len(FORMS) + 4) + '|')
    for name in options.systems:
        pool, test, elements = _structures(name, options, network)
        for n in options.labels:
            if n > len(pool):
                continue
            found = [
                _errors(pool, test, elements, n, seed, options.cutoff)
                for seed in range(options.choices if n < len(pool) else 1)
            ]
            print(_line(name, n, np.array(found)), flush=True)


def _structures(
    name: str, options: argparse.Namespace, network: Network
) -> tuple[list[Structure], list[Structure], list[int]]:
    """Those to choose from, those to test on, and their elements."""
    if name in OWN:
        fitted, tested = OWN[name]()
    elif name in STUDIES:
        fitted, tested = systems.ingan_teacher(options.ingan, name)
    else:
        sizes = options.pool, options.test
        fitted, tested = systems.lipscl(options.lipscl, TEACHERS[name], *sizes)
    elements = sorted({int(z) for low, _ in fitted for z in low.numbers})
    rng, cutoff = np.random.default_rng(0), options.cutoff
    pool = [
        structure(*pair, elements, network, options.directions, cutoff, rng)
        for pair in fitted[: options.pool]
    ]
    test = [
        structure(*pair, elements, network, TEST_DIRECTIONS, cutoff, rng)
        for pair in tested[: options.test]
    ]
    return pool, test, elements


def structure(
    low: Atoms,
    high: Atoms,
    elements: list[int],
    network: Network,
    most: int,
    cutoff: float,
    rng: np.random.Generator,
) -> Structure:
    """Return a pair of labels as what is fitted, with at most so many directions."""
    energy = high.get_potential_energy() - low.get_potential_energy()
    forces = _forces(low, high)
    directions = directions_of(low, most if forces is not None else 0, rng)
    nodes = network.sums(low, elements, directions)
    return Structure(edges_of(low, cutoff), nodes, energy / len(low), forces)


def _forces(low: Atoms, high: Atoms) -> Floats | None:
    try:
        forces: Floats = high.get_forces() - low.get_forces()
    except PropertyNotImplementedError:
        return None
    return forces


def _errors(
    pool: list[Structure],
    test: list[Structure],
    elements: list[int],
    n: int,
    seed: int,
    cutoff: float,
) -> list[float]:
    """RMS energies (eV/atom) and forces (eV/Å) of each form, and of those left out.

    The last is the ratio of the errors of the last form to what it expects.
    """
    chosen = np.random.default_rng(seed).permutation(len(pool))[:n]
    known = [pool[i] for i in chosen]
    labels = [Difference(k.edges, k.energy * k.n_atoms, k.forces) for k in known]
    pairs = fit(labels, cutoff)
    features, both = ManyBody(known, elements), ManyBody(known, elements, pairs)
    own = pairs.model.basis.elements
    offset = dict(zip(own, element_energies(labels, own), strict=True))
    energies, forces, ratios = [], [], []
    for one in test:
        if not pairs.knows(one.edges.numbers):
            continue
        plain = np.mean([offset[z] for z in one.edges.numbers])
        pair = pairs.model.energy(one.edges) / one.n_atoms
        node, pulls, _ = features.predict(one)
        whole, whole_pulls, deviation = both.predict(one)
        energies.append(np.array([plain, pair, node, whole]) - one.energy)
        ratios.append(energies[-1][-1] / deviation)
        if one.forces is not None:
            true = one.pulls(one.forces)
            by_pairs = one.pulls(pairs.model.forces(one.edges))
            found = [0.0 * true, by_pairs, pulls, whole_pulls]
            forces.append(np.square(np.array(found) - true).mean(axis=1))
    energy = np.sqrt(np.square(energies).mean(axis=0))
    force = np.sqrt(np.mean(forces or [[np.nan] * len(FORMS)], axis=0))
    by_form = np.stack([energy, force], axis=1).ravel()
    return [*by_form, *both.left_out, np.sqrt(np.square(ratios).mean())]


def _line(name: str, n: int, found: Floats) -> str:
    """Mean and standard deviation over choices, in meV/atom and meV/Å."""
    *errors, ratio = zip(found.mean(axis=0), found.std(axis=0), strict=True)
    cells = [f'{1000 * mean:.1f} ± {1000 * spread:.1f}' for mean, spread in errors]
    both = [
        energy if np.isnan(force[0]) else f'{energy} / {text}'
        for energy, text, force in zip(
            cells[::2], cells[1::2], errors[1::2], strict=True
        )
    ]
    return f'| {name} | {n} | {" | ".join(both)} | {ratio[0]:.1f} |'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    names = [*OWN, *STUDIES, *TEACHERS]
    add('--systems', nargs='+', choices=names, default=list(OWN), metavar='NAME')
    add('--labels', type=int, nargs='+', default=[5, 10, 20, 40], metavar='N')
    add('--choices', type=int, default=4, help='random ones of each N (default: 4)')
    add('--model', default='7net-0', help='whose node features (default: 7net-0)')
    add('--cutoff', type=float, default=4.0, help='Å, of the pairs (default: 4)')
    add('--pool', type=int, default=40, help='structures to choose from')
    add('--test', type=int, default=40, help='structures to test on')
    add('--directions', type=int, default=48, help='along which forces are fitted')
    add('--ingan', type=Path, default=Path('ingan'), help='folder of the example')
    add('--lipscl', type=Path, default=Path('lipscl'), help='folder of the example')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    main()
