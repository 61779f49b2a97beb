"""Files that former versions wrote, and what they predicted; see data/archive.

    python tests/archive.py tests/data/archive/VERSION

writes `predictions.json` of a new folder.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from helpers import train_here

ARCHIVE = Path(__file__).parent / 'data' / 'archive'
INGAN = ARCHIVE.parent / 'ingan'
FOLDERS = sorted(path for path in ARCHIVE.iterdir() if path.is_dir())
PREDICTIONS = 'predictions.json'
RUN = 'interrupted'  # a folder to resume: its YAML and what the run left
# float32, on any machine: relative to the size of the energies, forces, stresses
TOLERANCE = {'energy': 1e-4, 'forces': 1e-4, 'stress': 1e-6}

# energy: eV; forces: (n_atoms, 3) eV/Å; stress: (6,) eV/Å^3
Properties = dict[str, Any]


def structures() -> list[Atoms]:
    """A binary and a mixed crystal, without labels."""
    found = read(INGAN / 'pbe_valid.extxyz', ':')
    found.sort(key=lambda atoms: len(set(atoms.symbols)))
    kept = [found[0].copy(), found[-1].copy()]
    for atoms in kept:
        atoms.calc = None
    return kept


def predictions(path: Path, fidelity: str) -> dict[str, list[Properties]]:
    """What a checkpoint predicts: for each fidelity one entry a structure.

    fidelity: one that it has.
    """
    from sevennet_mf import FidelityCalculator

    calculator = FidelityCalculator(path, fidelity, 'cpu')
    found = [calculator.all_fidelities(atoms) for atoms in structures()]
    return {
        name: [
            {key: np.asarray(entry[name][key]).tolist() for key in TOLERANCE}
            for entry in found
        ]
        for name in calculator.fidelities
    }


def stored(folder: Path, name: str) -> dict[str, list[Properties]]:
    """What was predicted then; as `predictions`."""
    content = json.loads((folder / PREDICTIONS).read_text(encoding='utf-8'))
    return dict(content[name])


def resume(folder: Path, place: Path) -> Path:
    """Finish a copy of the interrupted run of a folder; returns its best model.

    place: a folder for the copy, and for the data that it trains on.
    """
    copy = place / folder.relative_to(ARCHIVE.parent)
    shutil.copytree(folder, copy)
    shutil.copytree(INGAN, place / INGAN.name)
    train_here('input.yaml', '-w', '.', '--resume', cwd=copy / RUN)
    return copy / RUN / 'checkpoint_best.pth'


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob('*.pth'))


def main(folder: Path) -> None:
    from sevennet_mf.model.load import load_model

    with tempfile.TemporaryDirectory() as place:
        files = [*checkpoints(folder), resume(folder, Path(place))]
        found = {
            path.name: predictions(path, load_model(str(path)).fidelities[0])
            for path in files
        }
    found[RUN] = found.pop(files[-1].name)
    text = json.dumps(found, indent=1)
    (folder / PREDICTIONS).write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main(Path(sys.argv[1]).resolve())
