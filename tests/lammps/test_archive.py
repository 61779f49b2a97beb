"""What former versions deployed runs in LAMMPS, with the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archive import FOLDERS, TOLERANCE, stored, structures
from lammps_helpers import read_dump
from pair_models import SPECIES, evaluate

# by pair style: what was deployed, and from which checkpoint
DEPLOYED = {
    'e3gnn': ('{0}/deployed.pt', 'lora.pth'),
    'e3gnn/parallel': ('2 {0}/deployed_parallel', 'gain.pth'),
}


@pytest.mark.parametrize('style', DEPLOYED)
@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_a_deployed_file_predicts_what_it_did(
    folder: Path, style: str, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    file, checkpoint = DEPLOYED[style]
    atoms = structures()[1]  # of all elements
    wanted = stored(folder, checkpoint)['r2scan'][1]
    coeff = f'pair_coeff * * {file.format(folder)} {" ".join(SPECIES)}'
    pair = f'pair_style {style}\n{coeff}'
    turned, result = evaluate(atoms, pair, tmp_path, lmp_env)
    energy = result.thermo[-1]['PotEng']
    assert energy == pytest.approx(wanted['energy'], abs=TOLERANCE['energy'])
    found = read_dump(tmp_path / 'dump')[-1].columns('fx', 'fy', 'fz')
    # LAMMPS has the cell turned: lengths, and angles between forces, are the same
    forces = np.array(wanted['forces'])
    np.testing.assert_allclose(
        found @ found.T, forces @ forces.T, atol=20 * TOLERANCE['forces']
    )
    assert len(turned) == len(forces)
