"""MD by ASE that takes and answers what the benchmark tells LAMMPS.

    python lammps_ase.py CALCULATOR CHECKPOINT FIDELITY STRUCTURE DEVICE
"""

from __future__ import annotations

import sys
import time
import warnings

from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

STEP = 1.0  # fs, as in LAMMPS
TEMPERATURE = 600.0  # K


def calculator(kind: str, checkpoint: str, fidelity: str, device: str) -> Calculator:
    """FidelityCalculator for 'ours', SevenNet's own for 'host'."""
    if kind == 'ours':
        from sevennet_mf.calculators.fidelity import FidelityCalculator

        return FidelityCalculator(checkpoint, fidelity, device)
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator(checkpoint, device=device, modal=fidelity)


def main() -> None:
    warnings.simplefilter('ignore')
    kind, checkpoint, fidelity, structure, device = sys.argv[1:]
    atoms = read(structure)
    assert isinstance(atoms, Atoms)
    atoms.calc = calculator(kind, checkpoint, fidelity, device)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE)
    dynamics = VelocityVerlet(atoms, STEP * units.fs)
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ['run']:
            continue
        if 'pre' not in words:
            atoms.get_forces()
        start = time.perf_counter()
        dynamics.run(int(words[1]))
        took = time.perf_counter() - start
        print(f'Loop time of {took} on 1 procs for {words[1]} steps', flush=True)


if __name__ == '__main__':
    main()
