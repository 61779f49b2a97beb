"""What `pretrained.py` trains on: a checkpoint, labels of its level and of a new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

BENCHMARKS = Path(__file__).resolve().parent
EXAMPLES = BENCHMARKS.parent / 'example_inputs'
SCRATCH_PER_EPOCH = 100  # steps of what the schedule counts as an epoch


@dataclass(frozen=True)
class System:
    """old, new: names of the levels; known_as: of one the checkpoint does not name.

    scratch: YAML and steps of a training without the checkpoint; kinds: of the test
    structures, which follow one another in turn: both halves have all of them.
    """

    checkpoint: str
    old: str
    new: str
    known_as: str | None
    folder: Path
    labelled: tuple[str, ...]
    test: str
    replay: str
    known: str
    scratch: tuple[Path, int]
    kinds: int = 1
    has_forces: bool = True

    def labels(self, n: int, seed: int) -> list[Atoms]:
        """n labels of the new level, every element among them; 4 are in the 8."""
        found = self._labelled()
        order = np.random.default_rng(seed).permutation(len(found))
        first, seen = [], set[str]()
        for i in order:
            symbols = set(found[i].get_chemical_symbols())
            if not symbols <= seen:
                seen |= symbols
                first.append(i)
        rest = [i for i in order if i not in first]
        return [self._plain(found[i]) for i in [*first, *rest][:n]]

    def n_labels(self) -> int:
        return len(self._labelled())

    def elements(self) -> list[str]:
        return sorted({
            s for a in self._labelled() for s in a.get_chemical_symbols()
        })

    def halves(self) -> dict[str, list[Atoms]]:
        found = self._read(self.test)
        is_test = [i // self.kinds % 2 == 1 for i in range(len(found))]
        return {
            'valid': [a for a, test in zip(found, is_test, strict=True) if not test],
            'test': [a for a, test in zip(found, is_test, strict=True) if test],
        }

    def old_labels(self) -> list[Atoms]:
        """Structures of the old level that nothing is trained on."""
        return self._read(self.known)

    @property
    def replay_block(self) -> dict[str, Any]:
        block = {'file': str(self.folder / self.replay)}
        return block if self.known_as else {**block, 'fidelity': self.old}

    @property
    def self_label_block(self) -> dict[str, Any]:
        block: dict[str, Any] = {'self_label': {'per_structure': 10}}
        return block if self.known_as else {**block, 'fidelity': self.old}

    def _labelled(self) -> list[Atoms]:
        return [a for name in self.labelled for a in self._read(name)]

    def _read(self, name: str) -> list[Atoms]:
        return _read(self.folder / name)

    def _plain(self, atoms: Atoms) -> Atoms:
        copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        labels = {'energy': atoms.get_potential_energy()}
        if self.has_forces:
            labels['forces'] = atoms.get_forces()
        copy.calc = SinglePointCalculator(copy, **labels)
        return copy

    def scratch_sections(
        self, labels: str, seed: int, steps: int | None = None
    ) -> dict[str, Any]:
        """A training on all labels of the old level and the new ones, no checkpoint.

        The last checkpoint is measured, so no new label is spent on validation.
        steps: of the optimiser; default: those of `scratch`.
        """
        path, usual = self.scratch
        steps = steps or usual
        sections: dict[str, Any] = yaml.safe_load(path.read_text(encoding='utf-8'))
        epochs = max(1, steps // SCRATCH_PER_EPOCH)
        train, data = sections['train'], sections['data']
        train |= {'random_seed': seed, 'epoch': epochs, 'per_epoch': epochs}
        train['best_metric'] = 'TotalLoss'
        for name in ('scheduler', 'scheduler_param'):
            train.pop(name, None)  # over these epochs, by default
        train['fidelity']['steps_per_epoch'] = min(steps, SCRATCH_PER_EPOCH)
        names = data['fidelity']['order']
        data['fidelity'] |= {'order': [self.old, self.new]}
        data['fidelity'].pop('about', None)
        weights = train['fidelity'].pop('loss_weight', None)
        if weights:
            named = dict(zip(names, [self.old, self.new], strict=True))
            train['fidelity']['loss_weight'] = {
                named[name]: weight for name, weight in weights.items()
            }
        train['fidelity']['target'] = self.new
        train['is_train_stress'] = False
        train['error_record'] = [
            error for error in train['error_record'] if error[0] != 'Stress'
        ]
        data['load_trainset_path'] = [
            {'file': str(self.folder / self.replay), 'fidelity': self.old},
            self.entry(labels),
        ]
        data['load_validset_path'] = [
            {'file': str(self.folder / self.known), 'fidelity': self.old}
        ]
        return sections

    def entry(self, labels: str) -> dict[str, Any]:
        """The new labels, as an entry of `load_trainset_path`."""
        entry: dict[str, Any] = {'file': labels, 'fidelity': self.new}
        return entry if self.has_forces else {**entry, 'force_key': None}


@cache
def _read(path: Path) -> list[Atoms]:
    found: Sequence[Atoms] = read(path, ':')
    return list(found)


SYSTEMS = {
    'ingan': System(
        checkpoint='7net-0',
        old='pbe',
        new='r2scan',
        known_as='pbe',
        folder=EXAMPLES / 'ingan',
        labelled=('r2scan_binaries_train.extxyz', 'r2scan_binaries_valid.extxyz'),
        test='r2scan_mixed_test.extxyz',
        replay='pbe_train.extxyz',
        known='pbe_valid.extxyz',
        scratch=(BENCHMARKS / 'recipe' / 'ingan.yaml', 3000),
    ),
    'molecules': System(
        checkpoint='7net-mf-0',
        old='PBE',
        new='ccsdt',
        known_as=None,
        folder=EXAMPLES / 'molecules',
        labelled=('ccsdt_train.extxyz',),
        test='ccsdt_test.extxyz',
        replay='pbe_train.extxyz',
        known='pbe_valid.extxyz',
        scratch=(EXAMPLES / 'molecules' / 'multi_fidelity.yaml', 1800),
        kinds=2,
        has_forces=False,
    ),
}
