"""Structures of Li6PS5Cl for a study: molecular dynamics, strained cells.

    python structures.py -o lipscl

The cells have 52 atoms. A part of the S and Cl on their two sites is exchanged: the
site order, in % of the sites exchanged. Each trajectory is a file of its own, so an
interrupted call goes on with the next one. At the end all structures are in
`structures.extxyz`, without labels; their info says what they are for:

part         train, valid or test
kind         md or strained
order        % of the sites exchanged
temperature  in K; 0 for strained cells
high         1 for those that get an expensive label in training or validation
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.spacegroup import crystal

from sevennet_mf.analysis.relax import relax
from sevennet_mf.calculators.dynamics import langevin, snapshots
from sevennet_mf.data import extxyz
from sevennet_mf.files import make_folder
from sevennet_mf.label.calculators import made
from sevennet_mf.label.pieces import in_pieces, noted, options, rng_of
from sevennet_mf.label.teacher import arguments_of
from sevennet_mf.train.continuing.perturb import copies

TIME_STEP = 2.0  # fs
FRICTION = 0.01  # 1/fs
CLOSEST = 1.3  # Å: Li-Li and P-S never come closer, unless a run falls apart


@dataclass(frozen=True)
class Plan:
    """How many structures, and of which kind.

    Attributes:
        orders, temperatures: of the training data; each pair is a trajectory.
        high_orders, high_temperatures: of those with expensive labels.
        test_orders, test_temperatures: of the test set, in trajectories of its own.
        equilibration, interval: steps of 2 fs, before the first structure and
            between structures.
        train, valid, test: structures of each trajectory.
        high: structures of each trajectory with expensive labels that get one in
            training; in validation all do.
        strained: strained and rattled cells of each order.
        high_strained: how many of them get an expensive label, in all.
        relaxation: steps to find the lattice constant.
    """

    orders: tuple[int, ...] = (0, 25, 50, 75, 100)
    temperatures: tuple[int, ...] = (300, 450, 600, 750, 900, 1050, 1200)
    high_orders: tuple[int, ...] = (0, 50, 100)
    high_temperatures: tuple[int, ...] = (300, 600, 900, 1200)
    test_orders: tuple[int, ...] = (25, 75)
    test_temperatures: tuple[int, ...] = (450, 750, 1050)
    equilibration: int = 1000
    interval: int = 125
    train: int = 24
    valid: int = 2
    test: int = 20
    high: int = 7
    strained: int = 32
    high_strained: int = 16
    relaxation: int = 100


# a dozen structures, to try it out
SMALL = Plan(
    orders=(0, 50),
    temperatures=(300, 600),
    high_orders=(0,),
    high_temperatures=(300, 600),
    test_orders=(50,),
    test_temperatures=(300,),
    equilibration=2,
    interval=2,
    train=2,
    valid=1,
    test=2,
    high=1,
    strained=2,
    high_strained=2,
    relaxation=2,
)


# ---- cells


def ordered(lattice: float = 9.859) -> Atoms:
    """Return Li6PS5Cl, F-43m, with all Cl on 4a and the free S on 4d.

    Coordinates as in H.-J. Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008);
    but Li is on 24g, between the two halves of the split position 48h.
    """
    atoms: Atoms = crystal(
        ['Li', 'P', 'S', 'S', 'Cl'],
        basis=[
            (0.25, 0.0183, 0.75),
            (0, 0, 0.5),
            (0.1195, -0.1195, 0.6195),
            (0.25, 0.25, 0.75),
            (0, 0, 0),
        ],
        spacegroup=216,
        cellpar=[lattice] * 3 + [90] * 3,
    )
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def exchanged(order: int, lattice: float, rng: np.random.Generator) -> Atoms:
    """Return a cell in which a part of the Cl and of the free S changed places.

    Args:
        order: In % of the four sites of each.
    """
    atoms = ordered(lattice)
    chlorine = np.flatnonzero(atoms.symbols == 'Cl')
    free = np.flatnonzero(atoms.symbols == 'S')[-4:]  # after those of PS4 groups
    n = round(order / 100 * 4)
    atoms.symbols[rng.choice(chlorine, n, replace=False)] = 'S'
    atoms.symbols[rng.choice(free, n, replace=False)] = 'Cl'
    return atoms


# ---- molecular dynamics


@dataclass(frozen=True)
class Trajectory:
    """A run: of which cell, how hot, what for."""

    part: str
    order: int
    temperature: int
    high: bool

    @property
    def name(self) -> str:
        return f'{self.part}_{self.order}_{self.temperature}K'


def trajectories(plan: Plan) -> Iterator[Trajectory]:
    """All runs, in their order."""
    for order in plan.orders:
        for temperature in plan.temperatures:
            high = order in plan.high_orders
            high = high and temperature in plan.high_temperatures
            yield Trajectory('train', order, temperature, high)
    for order in plan.test_orders:
        for temperature in plan.test_temperatures:
            yield Trajectory('test', order, temperature, True)


def run(
    one: Trajectory, plan: Plan, lattice: float, calculator: Any, seed: int
) -> list[Atoms]:
    """Return the structures of a run at constant volume.

    The lattice constant differs from run to run, from -1 to +3 % of that at 0 K:
    about what heat does to it.

    Raises:
        UserError: It fell apart.
    """
    rng = rng_of(one, seed)
    lattice *= 1 + rng.uniform(-0.01, 0.03)
    atoms = exchanged(one.order, lattice, rng)
    (atoms,) = copies(atoms, 1, 0.05, 0.0, rng)
    atoms.calc = calculator
    motion = langevin(atoms, one.temperature, rng, TIME_STEP, FRICTION)
    n_train = plan.train if one.part == 'train' else plan.test
    n = n_train + (plan.valid if one.part == 'train' else 0)
    chosen = set(np.linspace(0, n_train - 1, plan.high).round().astype(int))
    steps = plan.equilibration, plan.interval
    found = []
    for number, atoms in enumerate(snapshots(motion, n, *steps, CLOSEST)):
        part = one.part if number < n_train else 'valid'
        high = one.high and (part != 'train' or number in chosen)
        found.append(described(atoms, one, 'md', part, high))
    return found


def described(
    atoms: Atoms, one: Trajectory, kind: str, part: str, high: bool
) -> Atoms:
    """A copy without labels that says what it is."""
    return noted(
        atoms,
        part=part,
        kind=kind,
        order=one.order,
        temperature=one.temperature,
        high=high,
    )


# ---- strained and rattled


def strained(plan: Plan, lattice: float, seed: int) -> Iterator[Atoms]:
    """Cells of each order, strained by up to 5 % and rattled by 0.02 to 0.15 Å."""
    orders = [order for order in plan.orders if order in plan.high_orders]
    left = plan.high_strained
    for order in plan.orders:
        one = Trajectory('train', order, 0, False)
        rng = rng_of(one, seed)
        share = -(-left // len(orders)) if order in orders else 0
        if order in orders:
            orders.remove(order)
        left -= share
        for number in range(plan.strained):
            atoms = exchanged(order, lattice, rng)
            (copy,) = copies(atoms, 1, rng.uniform(0.02, 0.15), 0.05, rng)
            yield described(copy, one, 'strained', one.part, number < share)


# ---- the whole


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is not yet there."""
    parser = options((__doc__ or '').splitlines()[0], 'lipscl')
    args = parser.parse_args(argv)
    plan = SMALL if args.small else Plan()
    folder = Path(args.output)
    make_folder(folder, to_write=True)
    calculator = made(args.calculator, arguments_of(args.arguments))
    lattice = lattice_constant(folder, plan, calculator, args.seed)
    print(f'lattice constant: {lattice:.3f} Å', flush=True)
    found = list(strained(plan, lattice, args.seed))
    found += in_pieces(
        folder / 'trajectories',
        trajectories(plan),
        lambda one: run(one, plan, lattice, calculator, args.seed),
        partial(print, flush=True),
    )
    n = extxyz.write(folder / 'structures.extxyz', found)
    print(f'{folder}/structures.extxyz: {n} structures')
    return 0


def lattice_constant(folder: Path, plan: Plan, calculator: Any, seed: int) -> float:
    """Return that of the ordered cell at 0 K, in Å."""
    path = folder / 'relaxed.extxyz'
    if not path.is_file():
        rng = np.random.default_rng(seed)
        (start,) = copies(ordered(), 1, 0.02, 0.0, rng)
        with warnings.catch_warnings():
            # of scipy, for each step of the cell
            warnings.filterwarnings('ignore', 'logm result')
            found = relax(start, calculator, fmax=0.1, steps=plan.relaxation)
        extxyz.write(path, [found])
    return float(ase.io.read(path).get_volume() ** (1 / 3))


if __name__ == '__main__':
    raise SystemExit(main())
