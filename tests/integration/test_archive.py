"""What former versions wrote is read and goes on, with the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive import (
    ARCHIVE,
    FOLDERS,
    INGAN,
    RUN,
    TOLERANCE,
    checkpoints,
    predictions,
    resume,
    stored,
)
from ase.io import read
from commandline import table
from helpers import registered, train_here

from sevennet_mf import FidelityCalculator
from sevennet_mf.config import inputs
from sevennet_mf.evaluate.evaluation import evaluate
from sevennet_mf.model.load import load_model


def label(path: Path) -> str:
    return path.relative_to(ARCHIVE).as_posix()


every_version = pytest.mark.parametrize('folder', FOLDERS, ids=label)
every_checkpoint = pytest.mark.parametrize(
    'path', [path for folder in FOLDERS for path in checkpoints(folder)], ids=label
)


def assert_predicts(path: Path, wanted: dict[str, list[dict[str, Any]]]) -> None:
    found = predictions(path, next(iter(wanted)))
    assert [*found] == [*wanted]
    for fidelity, entries in wanted.items():
        for now, then in zip(found[fidelity], entries, strict=True):
            for quantity, tolerance in TOLERANCE.items():
                np.testing.assert_allclose(
                    now[quantity],
                    then[quantity],
                    rtol=0,
                    atol=tolerance,
                    err_msg=f'{fidelity} {quantity}',
                )


def test_there_is_an_archive() -> None:
    """Without this one an archive that is not found would pass all others."""
    assert FOLDERS
    assert all(checkpoints(folder) for folder in FOLDERS)


@every_checkpoint
def test_a_checkpoint_predicts_what_it_did(path: Path) -> None:
    with registered():
        assert_predicts(path, stored(path.parent, path.name))


@every_version
def test_an_interrupted_run_is_finished(folder: Path, tmp_path: Path) -> None:
    with registered():
        best = resume(folder, tmp_path)
        assert_predicts(best, stored(folder, RUN))
    curve = table(best.parent / 'lc.csv')
    assert curve['epoch'] == [1, 2, 3]
    loss = curve['validset_r2scan_TotalLoss']
    assert min(loss) < loss[0]  # what was compared comes from after the interruption


@every_version
def test_a_yaml_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(folder.rglob('*.yaml')):
        if path.parent.name != 'sevenn_data':
            monkeypatch.chdir(path.parent)
            inputs.from_sections(inputs.load_yaml(path.name))


@every_version
def test_a_checkpoint_is_continued(folder: Path, tmp_path: Path) -> None:
    """Another fidelity is added to it, by the YAML of that time."""
    here = tmp_path / folder.relative_to(ARCHIVE.parent)
    here.mkdir(parents=True)
    shutil.copytree(INGAN, tmp_path / INGAN.name)
    for name in ('extended.yaml', 'plain.pth'):
        shutil.copyfile(folder / name, here / name)
    with pytest.warns(UserWarning, match="labels of 'r2scan' differ from"):
        train_here('extended.yaml', '-w', 'out', cwd=here)
    with registered():
        made = load_model(str(here / 'out' / 'checkpoint_best.pth'))
    assert made.fidelities == tuple(stored(folder, 'extended.pth'))


@every_version
def test_graphs_are_read(folder: Path, tmp_path: Path) -> None:
    graphs = folder / 'sevenn_data' / 'r2scan.pt'
    model = folder / 'bias.pth'
    entry = {'file': str(graphs), 'fidelity': 'r2scan'}
    with registered():
        found = evaluate(str(model), [entry], str(tmp_path)).predictions
    frames = read(INGAN / 'r2scan_valid.extxyz', ':2')
    energies = [atoms.get_potential_energy() for atoms in frames]
    # the host rounds them to float32
    np.testing.assert_allclose(found.label_energy, energies, atol=1e-5)
    forces = np.concatenate([atoms.get_forces() for atoms in frames])
    np.testing.assert_allclose(
        np.concatenate(found.label_forces), forces, atol=1e-5
    )
    calculator = FidelityCalculator(model, 'r2scan', 'cpu')
    predicted = [calculator.get_potential_energy(atoms) for atoms in frames]
    np.testing.assert_allclose(found.energy, predicted, atol=TOLERANCE['energy'])
