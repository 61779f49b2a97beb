"""Structures of In(x)Ga(1-x)N for a study: crystals near and far from the minimum.

    python structures.py -o ingan

Each crystal (a cell, a composition, an arrangement of In and Ga) is relaxed, and
strained and rattled copies and molecular dynamics start from there. Its structures
are a file of their own, so an interrupted call goes on with the next crystal. At the
end all structures are in `structures.extxyz`, without labels; their info says what
they are for:

part          train, valid, test or mixing
kind          relaxed, near (the minimum), strained or md
cell          wz8, wz16, ..., zb8, ...: wurtzite or zincblende, number of atoms
x             of In(x)Ga(1-x)N
temperature   in K; 0 where there is no dynamics
geometries    1 for those with an expensive label that are all near the minimum
compositions  1 for those with an expensive label that are all of few compositions
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from sevennet_mf.analysis.relax import relax
from sevennet_mf.calculators.dynamics import langevin, snapshots
from sevennet_mf.data import extxyz
from sevennet_mf.label.calculators import made
from sevennet_mf.label.pieces import in_pieces, noted, options, rng_of
from sevennet_mf.label.teacher import arguments_of
from sevennet_mf.train.continuing.perturb import copies

TIME_STEP = 2.0  # fs
FRICTION = 0.02  # 1/fs
CLOSEST = 1.3  # Å: no two atoms come closer, unless a run falls apart
EIGHTHS = tuple(range(9))
QUARTERS = (0, 2, 4, 6, 8)
# lattice constants of GaN and InN in Å, before relaxation; c/a and u are ideal
LENGTHS = {'wz': (3.22, 3.58), 'zb': (4.55, 5.05)}
CUBIC = partial(bulk, 'GaN', 'zincblende', cubic=True)
CELLS: dict[str, tuple[Callable[..., Atoms], tuple[int, int, int]]] = {
    'wz8': (partial(bulk, 'GaN', 'wurtzite'), (2, 1, 1)),
    'wz16': (partial(bulk, 'GaN', 'wurtzite'), (2, 2, 1)),
    'wz32': (partial(bulk, 'GaN', 'wurtzite'), (2, 2, 2)),
    'wz64': (partial(bulk, 'GaN', 'wurtzite'), (4, 2, 2)),
    'zb8': (CUBIC, (1, 1, 1)),
    'zb16': (partial(bulk, 'GaN', 'zincblende'), (2, 2, 2)),
    'zb32': (CUBIC, (2, 2, 1)),
    'zb64': (CUBIC, (2, 2, 2)),
}


@dataclass(frozen=True)
class Crystals:
    """Crystals of one cell for one part of the data.

    Attributes:
        eighths: 8 x, for each x.
        n: Crystals of each x: the first is ordered, the others are random.
    """

    part: str
    cell: str
    eighths: tuple[int, ...]
    n: int


@dataclass(frozen=True)
class Crystal:
    """A cell with an arrangement of In and Ga in it, and what it is for."""

    part: str
    cell: str
    eighths: int
    number: int

    @property
    def name(self) -> str:
        return f'{self.part}_{self.cell}_x{self.eighths}_{self.number}'


@dataclass(frozen=True)
class Plan:
    """How many structures, and of which kind.

    Attributes:
        crystals: All of them.
        kinds: By part, how many structures near the minimum, strained and from
            dynamics a crystal gives.
        high: Structures with expensive labels in training.
        high_eighths: 8 x of those that are of few compositions.
        relaxation: Steps to the minimum, at most.
        equilibration, interval: Steps of dynamics, before the first interval and
            before each structure.
    """

    crystals: tuple[Crystals, ...] = (
        Crystals('train', 'wz8', QUARTERS, 5),
        Crystals('train', 'zb8', QUARTERS, 5),
        Crystals('train', 'wz16', EIGHTHS, 3),
        Crystals('train', 'zb16', EIGHTHS, 3),
        Crystals('train', 'wz32', EIGHTHS, 1),
        Crystals('train', 'zb32', EIGHTHS, 1),
        Crystals('train', 'zb64', (2, 4, 6), 1),
        Crystals('valid', 'wz16', EIGHTHS, 1),
        Crystals('valid', 'zb8', QUARTERS, 1),
        Crystals('test', 'wz8', (2, 6), 2),
        Crystals('test', 'zb8', (2, 6), 2),
        Crystals('test', 'wz16', (1, 2, 3, 5, 6, 7), 2),
        Crystals('test', 'zb16', (1, 2, 3, 5, 6, 7), 2),
        Crystals('test', 'wz32', (1, 2, 3, 5, 6, 7), 1),
        Crystals('test', 'zb32', (1, 2, 3, 5, 6, 7), 1),
        Crystals('test', 'wz64', (3, 5), 1),
        Crystals('mixing', 'wz16', EIGHTHS, 2),
        Crystals('mixing', 'zb16', EIGHTHS, 2),
        Crystals('mixing', 'wz32', EIGHTHS, 1),
        Crystals('mixing', 'zb64', QUARTERS, 1),
    )
    kinds: tuple[tuple[str, tuple[int, int, int]], ...] = (
        ('train', (2, 3, 3)),
        ('valid', (1, 2, 1)),
        ('test', (0, 2, 2)),
        ('mixing', (0, 0, 0)),
    )
    high: int = 100
    high_eighths: tuple[int, ...] = (0, 4, 8)
    relaxation: int = 200
    equilibration: int = 80
    interval: int = 30


# a few structures, to try it out
SMALL = Plan(
    crystals=(
        Crystals('train', 'zb8', QUARTERS, 1),
        Crystals('valid', 'zb8', (4,), 1),
        Crystals('test', 'zb8', (2, 6), 1),
        Crystals('mixing', 'zb8', QUARTERS, 1),
    ),
    high=8,
    relaxation=40,
    equilibration=2,
    interval=2,
)


def crystals(plan: Plan) -> Iterator[Crystal]:
    """All crystals, in their order."""
    for group in plan.crystals:
        for eighths in group.eighths:
            # without a second element there is one arrangement
            alike = group.part == 'mixing' and eighths in (0, 8)
            for number in range(1 if alike else group.n):
                yield Crystal(group.part, group.cell, eighths, number)


# ---- crystals


def arranged(crystal: Crystal, rng: np.random.Generator) -> Atoms:
    """Return a crystal at Vegard's lattice constant, each atom at its ideal site.

    In is on sites at random; in the ordered one it fills planes across one of the
    cell vectors, one after the other.
    """
    build, repeat = CELLS[crystal.cell]
    low, high = LENGTHS[crystal.cell[:2]]
    x = crystal.eighths / 8
    atoms: Atoms = build(a=(1 - x) * low + x * high) * repeat
    sites = np.flatnonzero(atoms.symbols == 'Ga')
    rng.shuffle(sites)
    if crystal.number == 0:
        heights = atoms.get_scaled_positions()[sites, rng.integers(3)].round(6)
        sites = sites[np.argsort(heights, kind='stable')]
    count = len(sites) * crystal.eighths // 8
    atoms.symbols[sites[:count]] = 'In'
    return atoms


def structures(
    plan: Plan, calculator: Any, seed: int, crystal: Crystal
) -> list[Atoms]:
    """Return the structures that a crystal gives.

    Near the minimum is strained by up to 1 % and rattled by 0.02 Å; strained is by
    up to 6 %, and rattled by 0.02 to 0.15 Å.

    Raises:
        UserError: The dynamics fall apart.
    """
    rng = rng_of(crystal, seed)
    near, strained, moving = dict(plan.kinds)[crystal.part]
    relaxed = minimum(arranged(crystal, rng), plan, calculator, rng)
    found = [] if near + strained + moving else [('relaxed', 0, relaxed)]
    for atoms in copies(relaxed, near, 0.02, 0.01, rng):
        found.append(('near', 0, atoms))
    for _ in range(strained):
        (atoms,) = copies(relaxed, 1, rng.uniform(0.02, 0.15), 0.06, rng)
        found.append(('strained', 0, atoms))
    temperature = int(rng.choice([300, 600, 900, 1200]))
    for atoms in heated(relaxed, moving, temperature, plan, calculator, rng):
        found.append(('md', temperature, atoms))
    return [
        noted(
            atoms,
            part=crystal.part,
            kind=kind,
            cell=crystal.cell,
            x=crystal.eighths / 8,
            temperature=kelvin,
        )
        for kind, kelvin, atoms in found
    ]


def minimum(
    atoms: Atoms, plan: Plan, calculator: Any, rng: np.random.Generator
) -> Atoms:
    """Return a crystal at the minimum of the energy, with its cell."""
    # off the saddle that symmetry may hold it on
    (start,) = copies(atoms, 1, 0.02, 0.0, rng)
    with warnings.catch_warnings():
        # of scipy, for each step of the cell
        warnings.filterwarnings('ignore', 'logm result')
        return relax(start, calculator, fmax=0.03, steps=plan.relaxation)


def heated(
    atoms: Atoms,
    n: int,
    temperature: int,
    plan: Plan,
    calculator: Any,
    rng: np.random.Generator,
) -> Iterator[Atoms]:
    """Yield n structures of dynamics in a cell that is -1 to +3 % as long."""
    if n:
        atoms = atoms.copy()
        length = 1 + rng.uniform(-0.01, 0.03)
        atoms.set_cell(np.asarray(atoms.cell) * length, scale_atoms=True)
        atoms.calc = calculator
        motion = langevin(atoms, temperature, rng, TIME_STEP, FRICTION)
        steps = plan.equilibration, plan.interval
        for found in snapshots(motion, n, *steps, CLOSEST):
            yield found.copy()


# ---- the whole


def choose(found: Sequence[Atoms], plan: Plan, seed: int) -> None:
    """Note which training structures have expensive labels, in both ways."""
    rng = np.random.default_rng(seed)
    few = [eighths / 8 for eighths in plan.high_eighths]
    could: dict[str, Callable[[dict[str, Any]], bool]] = {
        'geometries': lambda info: info['kind'] == 'near',
        'compositions': lambda info: info['x'] in few,
    }
    for key, may in could.items():
        rows = [
            i
            for i, atoms in enumerate(found)
            if atoms.info['part'] == 'train' and may(atoms.info)
        ]
        chosen = set(rng.choice(rows, plan.high, replace=False))
        for i, atoms in enumerate(found):
            atoms.info[key] = int(i in chosen)


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is not yet there."""
    parser = options((__doc__ or '').splitlines()[0], 'ingan')
    args = parser.parse_args(argv)
    plan = SMALL if args.small else Plan()
    folder = Path(args.output)
    calculator = made(args.calculator, arguments_of(args.arguments))
    make = partial(structures, plan, calculator, args.seed)
    say = partial(print, flush=True)
    found = in_pieces(folder / 'crystals', crystals(plan), make, say)
    choose(found, plan, args.seed)
    n = extxyz.write(folder / 'structures.extxyz', found)
    print(f'{folder}/structures.extxyz: {n} structures')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
