"""Energies of many structures, by several processes with a calculator each."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from ase import Atoms
from ase.build import bulk

from sevennet_mf import FidelityCalculator

calculator: FidelityCalculator  # of this process


def start() -> None:
    """Once in each process: one thread, since there is a process for each core."""
    global calculator
    torch.set_num_threads(1)
    calculator = FidelityCalculator('7net-mf-0', fidelity='R2SCAN', device='cpu')


def energy(atoms: Atoms) -> float:
    return float(calculator.get_potential_energy(atoms))


if __name__ == '__main__':
    cells = [bulk('GaN', 'wurtzite', a=a, c=1.63 * a) for a in (3.1, 3.2, 3.3)]
    with ProcessPoolExecutor(2, get_context('spawn'), start) as pool:
        for atoms, found in zip(cells, pool.map(energy, cells), strict=True):
            print(f'a = {atoms.cell.lengths()[0]:.2f} Å: {found:.3f} eV')
