"""Calculators that tests label with: sound ones, and ones that fail in some way.

A structure tells its calculator by the length of its cell: below 10 Å all is well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones


class Simple(Calculator):
    """Its results are what `find` sets."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = (),
        changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, changes)
        assert self.atoms is not None
        self.find(self.atoms)

    def find(self, atoms: Atoms) -> None:
        raise NotImplementedError


class Odd(Simple):
    """Energy minus the length of the cell; fails where that is 10 Å or more."""

    implemented_properties = ['energy', 'free_energy', 'forces', 'stress']
    made = 0

    def __init__(self, fault: str = '', log: str = '', wait: float = 0.0) -> None:
        super().__init__()
        self.fault, self.log, self.wait = fault, log, wait
        type(self).made += 1

    def find(self, atoms: Atoms) -> None:
        length = float(atoms.cell[0, 0])
        time.sleep(self.wait)
        Path('output.txt').write_text(f'{length}')
        if self.log:
            with open(self.log, 'a') as stream:
                stream.write(f'{length} {os.getpid()} {os.getcwd()}\n')
        self.converged = True
        self.results = {
            'energy': -length + 0.5,
            'free_energy': -length,
            'forces': np.full((len(atoms), 3), 0.25),
            'stress': np.arange(6) / 100,
        }
        if length >= 10:
            self.go_wrong()

    def go_wrong(self) -> None:
        if self.fault == 'raise':
            raise RuntimeError('no such\npseudopotential.')
        if self.fault == 'crash':
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == 'exit':
            os._exit(3)
        if self.fault in ('stop', 'stopped'):  # as by Ctrl-C
            os.kill(os.getppid(), signal.SIGINT)
        if self.fault == 'stopped':  # the calculation, too
            raise RuntimeError('the program ended with exit code 130')
        if self.fault == 'unconverged':
            self.converged = False
        if self.fault in ('energy', 'forces', 'stress'):
            value = np.array(self.results[self.fault], dtype=float)
            value[...] = np.nan
            self.results[self.fault] = value
        if self.fault == 'large':
            self.results['forces'][0, 0] = 1e5
        if self.fault == 'shape':
            self.results['forces'] = np.zeros((1, 3))


class EnergyOnly(Odd):
    """No forces, as of CCSD(T)."""

    implemented_properties = ['energy']


def make(**options: Any) -> Odd:
    return Odd(**options)


def needs(command: str) -> Odd:
    return Odd(command)


def no_calculator() -> int:
    return 3


lennard_jones = LennardJones
number = 3


class Springs(Simple):
    """Ties the atoms to where they are when it first sees their cell."""

    implemented_properties = ['energy', 'forces', 'stress']

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[float, np.ndarray] = {}

    def find(self, atoms: Atoms) -> None:
        now = atoms.positions
        moved = now - self.places.setdefault(atoms.get_volume(), now.copy())
        self.results = {
            'energy': float((moved**2).sum()),
            'forces': -2.0 * moved,
            'stress': np.zeros(6),
        }


class Program(Simple):
    """Runs a program that takes long, and writes its process id."""

    implemented_properties = ['energy']

    def find(self, atoms: Atoms) -> None:
        with subprocess.Popen(['sleep', '60']) as program:
            Path('pid').write_text(f'{program.pid}\n')
