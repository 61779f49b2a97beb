"""How far old fidelities go is measured, shown and limited."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from helpers import NAMES
from matplotlib.figure import Figure
from pretrained_helpers import (
    answers_of,
    extending,
    pretrained,
    trained_in,
)
from train_helpers import R2SCAN, VALID

from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing import drift_report
from sevennet_mf.train.loop.drift import Drift
from sevennet_mf.train.loop.trainer import FidelityTrainer

EPOCHS = 3
WORDS = r'no epoch stayed within .*max_drift \(energy 1e-06 meV/atom\).*Replay more'


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp('plain'))


def options(plain: Path, **train: Any) -> dict[str, Any]:
    """Real labels, which take weights of random numbers far; 2 steps an epoch.

    Without a replay: the drift is that on the validation structures.
    """
    # with Huber's loss the best of these epochs is the one that drifts least
    blocks = {'epoch': EPOCHS, 'per_epoch': 1, 'loss': 'mse'}
    sections = extending(plain, '', blocks=blocks, known_as='pbe', **train)
    sections['data']['load_trainset_path'] = [{**R2SCAN, 'index': ':8'}]
    sections['data']['load_validset_path'] = [VALID]
    return sections


@pytest.fixture(scope='module')
def free(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that may drift as it likes."""
    folder = tmp_path_factory.mktemp('free')
    return trained_in(folder, options(plain))


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def columns(folder: Path) -> dict[str, list[float]]:
    rows = rows_of(folder / 'lc.csv')
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def best_of(folder: Path) -> dict[str, Any]:
    return load_model(str(folder / 'checkpoint_best.pth')).provenance


# ---- what is written


def test_table_checkpoint_and_curve_agree(free: Path) -> None:
    provenance, curve = best_of(free), columns(free)
    epoch = provenance['best']['epoch']
    rows = {r['quantity']: r for r in rows_of(free / 'drift.csv')}
    assert list(rows) == ['energy', 'force']
    for quantity, unit in (('energy', 'meV/atom'), ('force', 'meV/Å')):
        row, said = rows[quantity], provenance['drift']['pbe'][quantity]
        assert (row['fidelity'], row['unit'], said['unit']) == ('pbe', unit, unit)
        assert float(row['before']) == said['before']
        assert float(row['after']) == said['after']
        drift = said['after'] - said['before']
        assert float(row['drift']) == pytest.approx(drift)
        assert said['before'] < 0.01  # its own labels
        assert drift > 1.0
        # of self labels the error is what predictions moved by
        assert float(row['moved']) == pytest.approx(said['after'], rel=1e-3)
        assert said['max_drift'] is None
        column = curve[f'drift_pbe_{quantity.capitalize()}_MAE']
        assert column[epoch - 1] == pytest.approx(said['after'] / 1000, abs=1e-6)
    assert (free / 'drift.png').read_bytes().startswith(b'\x89PNG')


def test_the_error_is_that_of_the_checkpoint_that_is_written(
    plain: Path, free: Path
) -> None:
    """Measured anew, on the validation structures."""
    atoms = read(VALID['file'], VALID['index'])
    before = answers_of(plain, None, atoms)
    after = answers_of(free / 'checkpoint_best.pth', 'pbe', atoms)
    said = best_of(free)['drift']['pbe']
    energy = 1000 * np.abs(after.energy - before.energy) / after.n_atoms
    assert said['energy']['after'] == pytest.approx(energy.mean(), rel=1e-3)
    force = 1000 * np.abs(after.forces - before.forces)
    assert said['force']['after'] == pytest.approx(force.mean(), rel=1e-3)


# ---- limits


def test_the_best_checkpoint_holds_the_limit(
    plain: Path, free: Path, tmp_path: Path
) -> None:
    curve = columns(free)
    drift = 1000 * np.array(curve['drift_pbe_Energy_MAE'])
    loss = np.array(curve['validset_r2scan_TotalLoss'])
    best = int(loss.argmin())
    assert drift[best] > 1.05 * drift.min()  # so that the limit matters
    limit = float((drift.min() + drift[best]) / 2)
    holding = np.flatnonzero(drift <= limit)
    wanted = holding[loss[holding].argmin()] + 1
    sections = options(plain, max_drift={'energy': limit})
    trained_in(tmp_path, sections)
    np.testing.assert_equal(columns(tmp_path), curve)  # it changes no step
    provenance = best_of(tmp_path)
    assert best_of(free)['best']['epoch'] == best + 1
    assert provenance['best']['epoch'] == wanted != best + 1
    row = provenance['drift']['pbe']['energy']
    assert row['after'] - row['before'] <= limit
    assert row['max_drift'] == limit


def test_no_checkpoint_holds_a_tiny_limit(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said is the same after an interruption, and when all is done."""
    sections = options(plain, max_drift={'energy': 1e-6})
    said = []
    with pytest.warns(UserWarning, match=WORDS) as caught:
        trained_in(tmp_path / 'whole', sections)
    said.append([str(w.message) for w in caught if 'held' in str(w.message)])
    assert not (tmp_path / 'whole' / 'checkpoint_best.pth').exists()
    rows = rows_of(tmp_path / 'whole' / 'drift.csv')
    last = columns(tmp_path / 'whole')['drift_pbe_Energy_MAE'][-1]
    assert float(rows[0]['after']) == pytest.approx(1000 * last, abs=1e-3)

    step, done = FidelityTrainer.step, []

    def counted(self: Any, *args: Any) -> Any:
        done.append(1)
        if len(done) == 2 * EPOCHS:  # the last of all
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    monkeypatch.setattr(FidelityTrainer, 'step', counted)
    with pytest.raises(TrainingStopped, match=f'epoch {EPOCHS}'):
        trained_in(tmp_path / 'parts', sections)
    for _ in range(2):  # the second time nothing is left to do
        with pytest.warns(UserWarning, match='no epoch stayed within') as caught:
            trained_in(tmp_path / 'parts', sections, resume=True)
        said.append([str(w.message) for w in caught if 'held' in str(w.message)])
    assert said[0] == said[1] == said[2]


def of(energy: float, force: float = 0.0) -> dict[str, dict[str, float]]:
    return {'pbe': {'Energy_MAE': energy, 'Force_MAE': force}}


def test_every_limit_counts() -> None:
    before = {'pbe': {'energy': 10.0, 'force': 20.0}}
    drift = Drift(before, {'energy': 2.0, 'force': 5.0})
    assert drift.update(of(0.012, 0.025), 1)  # exactly at both
    assert not drift.update(of(0.0125, 0.020), 2)
    assert not drift.update(of(0.010, 0.0255), 3)
    assert drift.worst() == pytest.approx(1.1)
    assert drift.update(of(0.001, 0.001), 4)  # better is no drift
    assert drift.smallest[1] == 4
    assert Drift(before, {}).update(of(9.0, 9.0), 1)


def test_a_quantity_without_labels() -> None:
    nan = float('nan')
    before = {'pbe': {'energy': 1.0, 'force': nan}}
    drift = Drift(before, {'energy': 1.0, 'force': 1.0})
    assert drift.update(of(0.0015, nan), 1)
    report = drift.as_dict()['pbe']
    assert report['force']['before'] is report['force']['after'] is None
    assert report['energy']['after'] == 1.5


def test_a_limit_of_what_no_label_tells(plain: Path, tmp_path: Path) -> None:
    replay = {'file': VALID['file'], 'force_key': None, 'held_out': 0.5}
    sections = options(plain, max_drift={'force': 1.0}, replay=replay)
    words = r"max_drift.force: 1 cannot be checked: .*\['pbe'\].*labels. Remove"
    aligned = pytest.warns(UserWarning, match='differ from')
    with aligned, pytest.raises(UserError, match=words):
        trained_in(tmp_path, sections)


# ---- the picture


def test_nothing_to_draw(tmp_path: Path) -> None:
    row = {'before': None, 'after': None, 'unit': 'meV/Å', 'max_drift': None}
    path = tmp_path / 'drift.png'
    assert not drift_report.draw({'pbe': {'force': row}}, str(path))
    assert not path.exists()
    known = {**row, 'before': 1.0, 'after': 2.0, 'max_drift': 0.5}
    report = {name: {'energy': known, 'force': row} for name in NAMES}
    assert drift_report.draw(report, str(path))
    assert path.exists()


def test_the_limit_of_one_quantity_is_in_the_legend(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    row = {'before': 1.0, 'after': 2.0, 'unit': 'meV/atom', 'max_drift': None}
    report = {'pbe': {'energy': row, 'force': {**row, 'max_drift': 0.5}}}
    assert drift_report.draw(report, str(tmp_path / 'drift.png'))
    (legend,) = drawn[0].legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ['before', 'after', 'limit']
