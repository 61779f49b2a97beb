"""Titanium oxides above the convex hull, at each fidelity of a model."""

from __future__ import annotations

import argparse
import re
import sys

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sevennet_mf import FidelityCalculator
from sevennet_mf.analysis.hull import Phase, energies_above_hull
from sevennet_mf.analysis.relax import relax
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')
# enthalpies of formation at 298 K in kJ/mol and atoms per formula: Chase,
# NIST-JANAF Thermochemical Tables, 4th edition (1998)
MEASURED = {'TiO': (-542.66, 2), 'Ti2O3': (-1520.88, 5), 'rutile': (-944.75, 3)}
KJ_PER_MOL = 1 / 96.485  # eV


def tetragonal(a: float, c: float) -> list[float]:
    return [a, a, c, 90, 90, 90]


def structures() -> dict[str, Atoms]:
    """Measured structures, in primitive cells; lengths in Å."""
    return {
        # R. W. G. Wyckoff, Crystal Structures 1 (1963)
        'Ti': bulk('Ti', 'hcp', a=2.95, c=4.686),
        'TiO': bulk('TiO', 'rocksalt', a=4.177),
        # the bond of the molecule: K. P. Huber and G. Herzberg, Constants of
        # Diatomic Molecules (1979)
        'O2': Atoms('O2', [[0, 0, 0], [0, 0, 1.2075]]),
        # R. E. Newnham and Y. M. de Haan, Z. Kristallogr. 117, 235 (1962)
        'Ti2O3': crystal(
            ('Ti', 'O'),
            [(0, 0, 0.345), (0.317, 0, 0.25)],
            spacegroup=167,
            cellpar=[5.149, 5.149, 13.642, 90, 90, 120],
            primitive_cell=True,
        ),
        # S. C. Abrahams and J. L. Bernstein, J. Chem. Phys. 55, 3206 (1971)
        'rutile': crystal(
            ('Ti', 'O'),
            [(0, 0, 0), (0.30479, 0.30479, 0)],
            spacegroup=136,
            cellpar=tetragonal(4.59366, 2.95868),
        ),
        # M. Horn, C. F. Schwerdtfeger and E. P. Meagher, Z. Kristallogr. 136, 273
        # (1972)
        'anatase': crystal(
            ('Ti', 'O'),
            [(0, 0, 0), (0, 0, 0.2081)],
            spacegroup=141,
            cellpar=tetragonal(3.7842, 9.5146),
            primitive_cell=True,
        ),
        # E. P. Meagher and G. A. Lager, Can. Mineral. 17, 77 (1979)
        'brookite': crystal(
            ('Ti', 'O', 'O'),
            [
                (0.1289, 0.0972, 0.8628),
                (0.0095, 0.1491, 0.1835),
                (0.2314, 0.1110, 0.5366),
            ],
            spacegroup=61,
            cellpar=[9.174, 5.449, 5.138, 90, 90, 90],
        ),
    }


def compute(checkpoint: str, steps: int) -> dict[str, list[Phase]]:
    """The phases by fidelity; structures are relaxed anew at each."""
    names = sorted(load_model(checkpoint).fidelities)
    calculator = FidelityCalculator(checkpoint, fidelity=names[0])
    found = {}
    for name in names:
        calculator.fidelity = name
        relaxed = [
            relax(atoms, calculator, steps=steps, fmax=0.05)
            for atoms in structures().values()
        ]
        energies = [atoms.get_potential_energy() for atoms in relaxed]
        found[name] = energies_above_hull(relaxed, energies, list(structures()))
    return found


def measured(name: str) -> float:
    """Enthalpy of formation in eV/atom, NaN if it is not in the table."""
    energy, n_atoms = MEASURED.get(name, (np.nan, 1))
    return energy * KJ_PER_MOL / n_atoms


def report(found: dict[str, list[Phase]]) -> None:
    print('formation energy in eV/atom, energy above hull in meV/atom')
    heads = ''.join(f'{name + " form.":>15}{"hull":>8}' for name in found)
    print(f'{"phase":10}{heads}{"measured form.":>17}')
    for rows in zip(*found.values(), strict=True):
        cells = ''.join(
            f'{p.formation_energy:15.3f}{1000 * p.above_hull:8.1f}' for p in rows
        )
        enthalpy = measured(rows[0].name)
        print(f'{rows[0].name:10}{cells}' + f'{enthalpy:17.3f}' * (enthalpy < 0))


def draw(found: dict[str, list[Phase]], path: str) -> None:
    figure = Figure(figsize=(8.6, 3.8), layout='constrained', dpi=150)
    left, right = figure.subplots(1, 2)
    draw_hull(left, found)
    phases = next(iter(found.values()))
    compounds = [i for i, phase in enumerate(phases) if not phase.reference_of]
    width = 0.8 / len(found)
    for k, (name, rows) in enumerate(found.items()):
        at = np.arange(len(compounds)) + (k - (len(found) - 1) / 2) * width
        heights = [1000 * rows[i].above_hull for i in compounds]
        bars = right.bar(at, heights, 0.95 * width, color=COLOURS[k], label=name)
        right.bar_label(bars, fmt='%.0f', fontsize=8)
    ticks = [subscripts(phases[i].name) for i in compounds]
    right.set_xticks(range(len(compounds)), ticks)
    right.set_ylabel('energy above hull (meV/atom)')
    for ax in (left, right):
        ax.spines[['top', 'right']].set_visible(False)
    figure.savefig(path)


def draw_hull(ax: Axes, found: dict[str, list[Phase]]) -> None:
    phases = next(iter(found.values()))
    x = np.array([phase.fractions.get('O', 0.0) for phase in phases])
    lowest = np.zeros(len(phases))
    for (name, rows), colour in zip(found.items(), COLOURS, strict=False):
        energy = np.array([phase.formation_energy for phase in rows])
        stable = np.array([phase.is_stable for phase in rows])
        style = {'color': colour, 'markerfacecolor': 'white'}
        ax.plot(x[~stable], energy[~stable], 'o', **style)
        hull = np.flatnonzero(stable)[np.argsort(x[stable])]
        ax.plot(x[hull], energy[hull], 'o-', color=colour, label=name)
        lowest = np.minimum(lowest, energy)
    ax.plot(x, [measured(p.name) for p in phases], 'kx', label='measured, 298 K')
    for i in {phase.formula: i for i, phase in enumerate(phases)}.values():
        if not phases[i].reference_of:
            ax.annotate(
                subscripts(phases[i].formula),
                (x[i], lowest[i]),
                xytext=(8, -8) if x[i] > 0.65 else (-8, -8),
                textcoords='offset points',
                horizontalalignment='left' if x[i] > 0.65 else 'right',
            )
    ax.set(xlabel='x in Ti$_{1-x}$O$_x$', ylabel='formation energy (eV/atom)')
    ax.margins(y=0.08)
    ax.legend(frameon=False, loc='upper center')


def subscripts(name: str) -> str:
    """'Ti2O3' as matplotlib sets it."""
    return re.sub(r'(\d+)', r'$_{\1}$', name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', nargs='?', default='7net-mf-0')
    parser.add_argument(
        '--relax', type=int, default=30, metavar='STEPS', help='0: as measured'
    )
    parser.add_argument('-o', '--output', default='hull.png', help='the picture')
    args = parser.parse_args()
    found = compute(args.checkpoint, args.relax)
    report(found)
    draw(found, args.output)


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(f'run.py: {error}')
