"""benchmarks/recipe/by_cell.py: errors about the median of each kind of cell."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from ase import Atoms
from paper_helpers import ROOT, script
from synthetic_study import run

from sevennet_mf.data import extxyz
from sevennet_mf.errors import UserError

KINDS = ['wz4', 'wz4', 'wz4', 'zb8', 'zb8', 'zb8']
OFF = {1: [9.0, 10.0, 11.0, -21.0, -20.0, -19.0], 2: [0.0, 0.0, 3.0, 1.0, 1.0, 1.0]}


@pytest.fixture(scope='module')
def by_cell() -> ModuleType:
    return script(ROOT / 'benchmarks' / 'recipe' / 'by_cell.py')


def test_errors_about_the_median_of_their_kind(by_cell: ModuleType) -> None:
    off = np.array(OFF[1])
    left = by_cell.about_median(off, KINDS)
    np.testing.assert_allclose(left, [-1, 0, 1, -1, 0, 1])
    assert off.tolist() == OFF[1]  # as it was


def written(out: Path, key: str = 'kind') -> Path:
    """A study of two seeds, whose test set says where it was copied from."""
    original, copy = out / 'original.extxyz', out / 'data' / 'test.extxyz'
    copy.parent.mkdir(parents=True)
    ase.io.write(original, [Atoms('H', info={key: kind}) for kind in KINDS])
    frames = [Atoms('H', info={'source': f'{original}:{i}'}) for i in range(6)]
    extxyz.write(copy, frames)
    for seed, off in OFF.items():
        folder = run(out, 'delta', 8, seed) / 'test'
        folder.mkdir()
        lines = [f'{copy}:{i},{error}' for i, error in enumerate(off)]
        text = '\n'.join(['source,energy_error (meV/atom)', *lines])
        (folder / 'per_structure.csv').write_text(text)
    return out


def test_the_saved_predictions_of_a_study(
    tmp_path: Path, by_cell: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    by_cell.main([str(written(tmp_path))])
    (line,) = [x for x in capsys.readouterr().out.splitlines() if 'delta' in x]
    # MAE of the seeds: 15 and 1 plain, 2/3 and 1/2 about the medians
    cells = [cell.strip() for cell in line.strip('│').split('│')]
    assert cells == ['delta', '8', '2', '8.00 ± 9.90', '0.583 ± 0.118']


def test_a_key_that_is_not_there(tmp_path: Path, by_cell: ModuleType) -> None:
    folder = written(tmp_path, key='cell')
    with pytest.raises(UserError, match=r"original.extxyz:0 has no 'kind' in its"):
        by_cell.main([str(folder)])
