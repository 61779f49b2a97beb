"""Mixing energy of zincblende In(x)Ga(1-x)N: a model at its fidelities, and DFT."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from ase.io import read
from matplotlib.figure import Figure

from sevennet_mf import FidelityCalculator
from sevennet_mf.analysis.mixing import Mixing, mixing_energy, r_squared
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.model.load import UNNAMED, load_model

HERE = Path(__file__).parent
ENDS = ('GaN', 'InN')
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')


def dft() -> dict[str, Mixing]:
    """Mixing energies of the labels, by fidelity: pbe and r2scan."""
    found = {}
    for file in sorted(HERE.glob('mixing_*.extxyz')):
        structures = read(file, ':')
        energies = [atoms.get_potential_energy() for atoms in structures]
        name = file.stem.removeprefix('mixing_')
        found[name] = mixing_energy(structures, energies, ENDS)
    return found


def predictions(checkpoint: str, chosen: list[str] | None) -> dict[str, Mixing]:
    """Mixing energies of the model, by fidelity, for the same structures."""
    names = load_model(checkpoint).fidelities
    for name in chosen or []:
        if name not in names:
            raise unknown('--fidelity', name, names)
    calculator = FidelityCalculator(checkpoint, fidelity=names[0])
    structures = read(HERE / 'mixing_pbe.extxyz', ':')
    results = [calculator.all_fidelities(atoms) for atoms in structures]
    return {
        name: mixing_energy(structures, [r[name]['energy'] for r in results], ENDS)
        for name in chosen or sorted(names)
    }


def model(name: str) -> str:
    """What columns and the legend call a prediction."""
    return 'model' if name == UNNAMED else f'model {name}'


def width(head: str) -> int:
    return max(15, len(head) + 2)


def report(
    labels: dict[str, Mixing], found: dict[str, Mixing], compared_with: str | None
) -> None:
    columns = {f'DFT {name}': curve for name, curve in labels.items()}
    columns |= {model(name): curve for name, curve in found.items()}
    x = next(iter(labels.values())).x
    print('mixing energy in meV/atom; x is the fraction of InN')
    print('   x ' + ''.join(f'{head:>{width(head)}}' for head in columns))
    for i in np.argsort(x):
        cells = ''.join(
            f'{curve.energy[i]:{width(head)}.1f}' for head, curve in columns.items()
        )
        print(f'{x[i]:.2f} {cells}')
    for name, curve in found.items():
        label = labels.get((compared_with or name).lower())
        if label is None:
            print(
                f'{name}: no DFT labels of that name to compare with; name others '
                f'with --compare_with, of {", ".join(labels)}'
            )
            continue
        mixed = label.is_mixed  # the end members are 0 by definition
        reference, predicted = label.energy[mixed], curve.energy[mixed]
        mae = np.abs(predicted - reference).mean()
        print(
            f'{name}: R² {r_squared(reference, predicted):.3f}, MAE {mae:.1f} '
            f'meV/atom over the {mixed.sum()} mixed compositions'
        )


def draw(labels: dict[str, Mixing], found: dict[str, Mixing], path: str) -> None:
    names = dict.fromkeys([*labels, *(name.lower() for name in found)])
    colour = dict(zip(names, COLOURS * len(names), strict=False))
    figure = Figure(figsize=(5.2, 3.8), layout='constrained', dpi=150)
    ax = figure.subplots()
    for name, curve in labels.items():
        order = np.argsort(curve.x)
        x, energy = curve.x[order], curve.energy[order]
        ax.plot(x, energy, 'o-', color=colour[name], label=f'DFT {name}')
    for k, (name, curve) in enumerate(found.items()):
        size = 10 * 0.6**k  # so that each is seen below the next
        order = np.argsort(curve.x)
        x, energy = curve.x[order], curve.energy[order]
        style = {'color': colour[name.lower()], 'markerfacecolor': 'white'}
        style |= {'markersize': size, 'linewidth': size / 4}
        ax.plot(x, energy, 's--', label=model(name), **style)
    ax.set_xlabel('x in In$_x$Ga$_{1-x}$N')
    ax.set_ylabel('mixing energy (meV/atom)')
    ax.grid(color='#dddddd', linewidth=0.6)
    ax.spines[['top', 'right']].set_visible(False)
    ax.legend(frameon=False, loc='lower center')
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='its path, or a pretrained name')
    parser.add_argument('--fidelity', nargs='+', help='default: all of the model')
    parser.add_argument('--compare_with', help='pbe or r2scan: the DFT labels')
    parser.add_argument('-o', '--output', default='mixing.png', help='the picture')
    args = parser.parse_args()
    labels, found = dft(), predictions(args.checkpoint, args.fidelity)
    if args.compare_with not in (None, *labels):
        raise unknown('--compare_with', args.compare_with, list(labels))
    report(labels, found, args.compare_with)
    draw(labels, found, args.output)


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(f'run.py: {error}')
