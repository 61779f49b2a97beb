"""One step of LAMMPS compared with ASE: does everything here work together?"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import sevenn._keys as KEY
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from tqdm import tqdm

from sevennet_mf.arrays import Floats
from sevennet_mf.calculators.fidelity import FidelityCalculator
from sevennet_mf.deploy.folded import Folded, prepare
from sevennet_mf.deploy.probe import FORCE_TOLERANCE, energy_tolerance
from sevennet_mf.deploy.torchscript import deploy_folded
from sevennet_mf.errors import UserError
from sevennet_mf.lammps.plugin_path import PLUGIN_FILE, plugin_folder
from sevennet_mf.lammps.process import Result, read_dump, run_lammps, write_data
from sevennet_mf.lammps.tools import Lammps, find_lammps, find_packages

STRESS_TOLERANCE: Final[float] = 1e-5  # eV/Å^3, 16 bar
RANKS: Final[int] = 2  # of e3gnn/parallel
LIMIT: Final[float] = 300.0  # s for one step, loading the model included
# rock salt: each site has six neighbours of the other kind
SITES: Final = np.indices((4, 4, 2)).reshape(3, -1).T
MOST_KINDS: Final[int] = 4
SCRIPT: Final[str] = """\
units metal
atom_style atomic
read_data data.lmp
pair_style {style}
pair_coeff * * {model} {symbols}
compute each all pe/atom
thermo_style custom step pe pxx pyy pzz pyz pxz pxy
thermo_modify norm no format float %.15g
dump 1 all custom 1 dump id fx fy fz c_each
dump_modify 1 format float %.15g
run 0
"""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Results of one step for n atoms.

    Attributes:
        energy: In eV.
        energies: (n,) energies of the atoms in eV.
        forces: (n, 3) in eV/Å.
        stress: (6,) in eV/Å^3, as in ASE: xx, yy, zz, yz, xz, xy, positive under
            tension.
    """

    energy: float
    energies: Floats
    forces: Floats
    stress: Floats


@dataclass(frozen=True, eq=False)
class Check:
    """A comparison of LAMMPS with ASE.

    Attributes:
        checkpoint: Path or pretrained name.
        atoms: The structure, as LAMMPS had it.
        ase: The expected results.
        lammps: The results of LAMMPS, by pair style.
    """

    checkpoint: str
    atoms: Atoms
    ase: Numbers
    lammps: dict[str, Numbers]

    def differences(self, style: str) -> dict[str, tuple[float, float]]:
        """Return the differences from ASE.

        Returns:
            By quantity, the largest absolute difference and the allowed one:
            energies in eV, forces in eV/Å, stress in eV/Å^3.
        """
        own, n = self.lammps[style], len(self.atoms)
        mean = self.ase.energy / n
        highest = float(abs(self.ase.energies).max())
        return {
            'energy per atom': (abs(own.energy / n - mean), _allowed(mean)),
            'energy of an atom': (
                _apart(own.energies, self.ase.energies),
                _allowed(highest),
            ),
            'forces': (_apart(own.forces, self.ase.forces), FORCE_TOLERANCE),
            'stress': (_apart(own.stress, self.ase.stress), STRESS_TOLERANCE),
        }


def _apart(a: Floats, b: Floats) -> float:
    return float(abs(a - b).max())


def _allowed(energy: float) -> float:
    return float(energy_tolerance(np.array(energy)))


def check(
    checkpoint: str = '7net-0',
    fidelity: str | None = None,
    atoms: Atoms | None = None,
) -> Check:
    """Compare one step of e3gnn, and of e3gnn/parallel on two ranks, with ASE.

    Args:
        checkpoint: Path or pretrained name.
        fidelity: Needed if the checkpoint has several.
        atoms: A periodic structure. Default: a rattled cell of elements that the
            model knows.

    Raises:
        UserError: If LAMMPS or its plugin is missing, if LAMMPS stops, or if its
            results differ from those of ASE: energies by more than
            max(1e-5 eV/atom, 4 float32 ulp), forces by more than 1e-4 eV/Å, stress
            by more than 1e-5 eV/Å^3.
    """
    lammps, plugin = find_lammps(), built_plugin()
    folded = prepare(checkpoint, fidelity, None)
    if atoms is None:
        elements = [atomic_numbers[symbol] for symbol in folded.elements]
        atoms = example(elements, float(folded.content['config'][KEY.CUTOFF]))
    symbols = sorted(set(atoms.symbols))
    calculator = FidelityCalculator(checkpoint, fidelity, device='cpu')
    with (
        tempfile.TemporaryDirectory() as name,
        tqdm(total=2, desc='e3gnn and e3gnn/parallel', disable=None) as bar,
    ):
        folder = Path(name)
        turned = write_data(atoms, folder / 'data.lmp', symbols)
        turned.calc = calculator
        found = {}
        for style in ('e3gnn', 'e3gnn/parallel'):
            script = SCRIPT.format(
                style=style,
                model=_deployed(folded, folder, style),
                symbols=' '.join(symbols),
            )
            ranks = RANKS if style == 'e3gnn/parallel' else 1
            found[style] = _one_step(script, folder, lammps, plugin, ranks)
            bar.update()
        result = Check(checkpoint, turned, _of_ase(turned), found)
    _refuse_difference(result)
    return result


def built_plugin() -> Path:
    """Return the path of the plugin of this environment.

    Raises:
        UserError: If it has not been compiled.
    """
    plugin = plugin_folder(find_packages()) / PLUGIN_FILE
    if not plugin.is_file():
        raise UserError(
            'the pair styles are not compiled for this torch and LAMMPS. Run: '
            'sevennet-mf lammps build'
        )
    return plugin


def environment_for(lammps: Lammps, plugin: Path) -> dict[str, str]:
    """Return the environment in which `lmp` has our pair styles, on one thread."""
    return {
        **lammps.environment,
        'LAMMPS_PLUGIN_PATH': str(plugin.parent),
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '1'),
    }


def example(elements: Sequence[int], cutoff: float) -> Atoms:
    """Return a small rattled rock-salt cell, always the same one.

    It is NaCl if the model knows both elements, else it has up to four elements
    that it knows.

    Args:
        elements: Atomic numbers that the model knows.
        cutoff: In Å.
    """
    numbers = [atomic_numbers['Na'], atomic_numbers['Cl']]
    if not set(numbers) <= set(elements):
        numbers = sorted(elements)[:MOST_KINDS]
    radii = sorted(float(covalent_radii[z]) for z in numbers)
    # the two largest may be neighbours
    spacing = min(1.1 * sum((radii * 2)[-2:]), 0.9 * cutoff)
    kinds = SITES.sum(axis=1) % len(numbers)
    random = np.random.default_rng(3)
    atoms = Atoms(
        [numbers[kind] for kind in kinds],
        positions=spacing * SITES,
        cell=spacing * np.diag([4.0, 4.0, 2.0]),
        pbc=True,
    )
    atoms.positions += 0.03 * spacing * random.normal(size=(len(atoms), 3))
    return atoms


def _deployed(folded: Folded, folder: Path, style: str) -> str:
    """Deploy, and return the arguments for `pair_coeff`."""
    if style == 'e3gnn':
        deploy_folded(folded, str(folder / 'serial.pt'), parallel=False)
        return 'serial.pt'
    segments = deploy_folded(folded, str(folder / 'parallel'), parallel=True)
    return f'{len(segments)} parallel'


def _one_step(
    script: str, folder: Path, lammps: Lammps, plugin: Path, ranks: int
) -> Numbers:
    dump = folder / 'dump'
    dump.unlink(missing_ok=True)
    try:
        own = environment_for(lammps, plugin)
        run = run_lammps(lammps, script, folder, own, ranks, LIMIT)
    except subprocess.TimeoutExpired:
        raise UserError(
            f'LAMMPS on {ranks} ranks took more than {LIMIT:g} s for one step. '
            f'Check whether {lammps.mpiexec} -n 2 lmp -help finishes.'
        ) from None
    if run.returncode or not run.thermo or not dump.is_file():
        raise UserError(f'LAMMPS stopped ({_started(ranks)}): {run.error}')
    return _of_lammps(run, dump)


def _started(ranks: int) -> str:
    return f'mpiexec -n {ranks} lmp' if ranks > 1 else 'lmp'


def _of_lammps(run: Result, dump: Path) -> Numbers:
    last = read_dump(dump)[-1]
    return Numbers(
        energy=run.thermo[-1]['PotEng'],
        energies=last.values['c_each'],
        forces=last.columns('fx', 'fy', 'fz'),
        stress=run.stress,
    )


def _of_ase(atoms: Atoms) -> Numbers:
    return Numbers(
        energy=float(atoms.get_potential_energy()),
        energies=np.asarray(atoms.get_potential_energies(), dtype=float),
        forces=np.asarray(atoms.get_forces(), dtype=float),
        stress=np.asarray(atoms.get_stress(voigt=True), dtype=float),
    )


def _refuse_difference(result: Check) -> None:
    for style in result.lammps:
        for name, (difference, allowed) in result.differences(style).items():
            if not difference <= allowed:  # NaN holds nowhere
                raise UserError(
                    f'{style} in LAMMPS and ASE differ for {result.checkpoint}: '
                    f'{name} by {difference:.2e}, allowed is {allowed:.1e} (eV, Å). '
                    'Do not use it; recompile it: sevennet-mf lammps build --force'
                )
