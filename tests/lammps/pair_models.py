"""Deployed models and runs that the tests of the two pair styles share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from helpers import (
    build,
    host_config,
    model_config,
    randomise,
    save_checkpoint,
    structures,
    trained,
)
from lammps_helpers import BAR, Result, read_dump, run_lmp, write_data
from sevenn.calculator import SevenNetCalculator
from sevenn.scripts.deploy import deploy, deploy_parallel

SPECIES = ('In', 'Ga', 'N')
FORCE = 1e-5  # eV/Å: float32, where the largest forces are some 0.3
# xx, yy, zz, xy, xz, yz of LAMMPS, out of the host's xx, yy, zz, xy, yz, zx
FROM_HOST = [0, 1, 2, 3, 5, 4]

SCRIPT = """
units metal
atom_style atomic
newton {newton}
boundary {boundary}
{before}
read_data data.lmp
{pair}
compute energies all pe/atom
compute virials all stress/atom NULL pair
compute sums all reduce sum c_virials[1] c_virials[2] c_virials[3] &
    c_virials[4] c_virials[5] c_virials[6] c_energies
thermo_style custom step pe etotal pxx pyy pzz pyz pxz pxy c_sums[*]
thermo_modify format float %.12g
dump all all custom 1 dump id type x y z fx fy fz c_energies c_virials[*]
dump_modify all format float %.12g
{after}
{run}
"""


@dataclass(frozen=True)
class Deployed:
    """One small random model of three elements, in both of the host's formats."""

    checkpoint: Path
    serial: Path
    folder: Path
    modal: str | None = None

    @property
    def segments(self) -> int:
        """How many files the parallel form has."""
        return len(list(self.folder.glob('*.pt')))

    def pair(self, style: str, names: str = 'In Ga N') -> str:
        """Lines for the input script."""
        what = {
            'e3gnn': str(self.serial),
            'e3gnn/parallel': f'{self.segments} {self.folder}',
        }
        return f'pair_style {style}\npair_coeff * * {what[style]} {names}'

    def reference(self, atoms: Atoms) -> dict[str, Any]:
        """What the host's ASE calculator finds; virials per atom in its order."""
        calculator = SevenNetCalculator(
            str(self.checkpoint),
            device='cpu',
            modal=self.modal,
            compute_atomic_virial=True,
        )
        calculator.calculate(atoms)
        return calculator.results


def deployed(folder: Path, parallel: bool = True, **model: Any) -> Deployed:
    """Deploy a model of three convolutions with the host's own commands."""
    model = {'num_convolution_layer': 3, **model}
    config = host_config(model_config('bias', names=('pbe',), **model))
    checkpoint = folder / 'checkpoint.pth'
    save_checkpoint(checkpoint, build(config), config)
    return deploy_both(checkpoint, folder, parallel=parallel)


def parity(folder: Path, parallel: bool = True) -> Deployed:
    """Deploy a model with odd features and the other self-connection."""
    return deployed(
        folder,
        parallel,
        num_convolution_layer=2,
        is_parity=True,
        self_connection_type='nequip',
    )


def two_modalities(folder: Path) -> Path:
    """Write a multi-modal checkpoint of the host, modalities of `helpers.NAMES`."""
    built, config = trained('bias')
    randomise(built, seed=7)
    return save_checkpoint(folder / 'modal.pth', built, host_config(config))


def deploy_both(
    checkpoint: Path, folder: Path, modal: str | None = None, parallel: bool = True
) -> Deployed:
    """Deploy one fidelity of a checkpoint, serial and parallel."""
    name = modal or 'plain'
    made = Deployed(checkpoint, folder / f'{name}.pt', folder / name, modal)
    deploy(str(checkpoint), str(made.serial), modal=modal)
    if parallel:
        deploy_parallel(str(checkpoint), str(made.folder), modal=modal)
    return made


def bulk(repeat: tuple[int, int, int] = (3, 3, 2)) -> Atoms:
    """A rattled In(x)Ga(1-x)N cell, triclinic as the files have it."""
    atoms = structures(1)[0] * repeat
    atoms.rattle(0.1, seed=3)
    return atoms


def slab() -> Atoms:
    """Two cells of it along z, and vacuum."""
    atoms = bulk((2, 2, 2))
    atoms.center(vacuum=8.0, axis=2)
    return atoms


def gas() -> Atoms:
    """A dimer and two lone atoms: one with no neighbour, in a large cell."""
    positions = [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [10.0, 10.0, 10.0], [10, 10, 18]]
    return Atoms('GaNInN', positions, cell=[20.0, 20.0, 20.0], pbc=True)


def single() -> Atoms:
    """One atom that sees nobody."""
    return Atoms('Ga', [[1.0, 1.0, 1.0]], cell=[20.0, 20.0, 20.0], pbc=True)


def tiny() -> Atoms:
    """One atom in a cell smaller than the cutoff: it sees only its own images."""
    return Atoms('Ga', [[0.1, 0.1, 0.1]], cell=[2.3, 2.4, 2.6], pbc=True)


CELLS = {'bulk': bulk, 'slab': slab, 'gas': gas, 'single': single, 'tiny': tiny}


def evaluate(
    atoms: Atoms,
    pair: str,
    folder: Path,
    env: Mapping[str, str],
    ranks: int = 1,
    **part: str,
) -> tuple[Atoms, Result]:
    """Run a script of ours; returns the structure in LAMMPS's frame, and the run.

    part: newton, boundary, before (the data are read), after, run.
    """
    parts = {
        'newton': 'on',
        'boundary': 'p p p',
        'before': '',
        'after': '',
        'run': 'run 0',
        **part,
    }
    turned = write_data(atoms, folder / 'data.lmp', SPECIES)
    result = run_lmp(SCRIPT.format(pair=pair, **parts), folder, env, ranks)
    assert result.returncode == 0, result.error
    return turned, result


def assert_agrees(
    atoms: Atoms, wanted: Mapping[str, Any], folder: Path, result: Result
) -> None:
    """Energy, forces, stress and per-atom values of the last step equal `wanted`."""
    dump = read_dump(folder / 'dump')[-1]
    last = result.thermo[-1]
    n = len(atoms)
    assert last['PotEng'] == pytest.approx(wanted['energy'], abs=1e-5 * n, rel=0)
    assert last['c_sums[7]'] == pytest.approx(last['PotEng'], abs=1e-6 * n, rel=0)
    close(dump.columns('fx', 'fy', 'fz'), wanted['forces'], 'forces')
    close(dump.values['c_energies'], wanted['energies'], 'energies')
    # pressure times volume, and compute stress/atom has the sign of a stress
    names = [f'c_virials[{i + 1}]' for i in range(6)]
    virials = -BAR * dump.columns(*names)
    close(virials, wanted['stresses'][:, FROM_HOST], 'virials')
    if atoms.pbc.all():
        close(result.stress, wanted['stress'], 'stress', 1e-6)
        total = -virials.sum(0)[[0, 1, 2, 5, 4, 3]] / atoms.get_volume()
        close(result.stress, total, 'sum of virials', 1e-9)


def close(found: Any, wanted: Any, name: str, tolerance: float = FORCE) -> None:
    """Two arrays agree within an absolute tolerance."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=name)

