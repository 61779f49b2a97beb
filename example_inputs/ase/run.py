"""GaN with 7net-mf-0: both fidelities, a relaxation, dynamics, and dE/dlambda."""

from __future__ import annotations

import numpy as np
from ase import units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from sevennet_mf import FidelityCalculator

calculator = FidelityCalculator('7net-mf-0', fidelity='R2SCAN')
atoms = bulk('GaN', 'wurtzite', a=3.19, c=5.19, u=0.377)
atoms.calc = calculator

with BFGS(FrechetCellFilter(atoms), logfile=None) as optimizer:
    optimizer.run(fmax=0.01, steps=50)
print(f'volume at R2SCAN: {atoms.get_volume():.2f} Å^3')

for name, found in calculator.all_fidelities(atoms).items():
    pressure = -found['stress'][:3].mean() / units.GPa
    print(f'{name}: {found["energy"]:.3f} eV, {pressure:.2f} GPa')

# dynamics halfway from PBE to R2SCAN, as in an integration over lambda
calculator.fidelity = {'PBE': 0.5, 'R2SCAN': 0.5}
width = np.sqrt(atoms.get_masses() * units.kB * 600)[:, None]
momenta = width * np.random.default_rng(0).normal(size=(len(atoms), 3))
atoms.set_momenta(momenta - momenta.mean(axis=0))
start = atoms.get_total_energy()
slopes = []
with VelocityVerlet(atoms, 1.0 * units.fs) as dynamics:
    dynamics.attach(lambda: slopes.append(calculator.get_denergy_dlambda(atoms)))
    dynamics.run(20)
drift = 1000 * (atoms.get_total_energy() - start) / len(atoms)
print(f'energy after 20 fs: {drift:+.3f} meV/atom from the start')
print(f'mean dE/dlambda: {np.mean(slopes):.3f} eV')
