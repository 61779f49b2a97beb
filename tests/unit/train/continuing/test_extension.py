"""A pretrained model gets another level of theory and keeps the ones it has."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from helpers import INGAN, NAMES
from pretrained_helpers import (
    OFFSETS,
    SELF_LABEL,
    SHIFT,
    answers_of,
    assert_same,
    extending,
    labelled,
    mixed,
    prepared,
    pretrained,
    trained_in,
)
from train_helpers import MOLECULES, same

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.model.build import theta_of
from sevennet_mf.model.load import load_model
from sevennet_mf.train.loop.trainer import FidelityTrainer


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp('plain'))


@pytest.fixture(scope='module')
def files(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Labels as the checkpoint gives them, but for an energy of each element."""
    folder = tmp_path_factory.mktemp('labels')
    train = labelled(folder / 'train.xyz', mixed(8), plain, None, OFFSETS)
    valid = labelled(folder / 'valid.xyz', mixed(4, 1), plain, None, OFFSETS)
    return [train, valid]


def options(plain: Path, files: list[str], **train: Any) -> dict[str, Any]:
    given = {'known_as': 'pbe', 'replay': SELF_LABEL, **train}
    return extending(plain, *files, blocks={'epoch': 2, 'per_epoch': 1}, **given)


@pytest.fixture(scope='module')
def whole(
    plain: Path, files: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp('whole')
    return trained_in(folder, options(plain, files), pictures=True)


# ---- before the first step


def test_old_and_new_start_as_the_checkpoint(plain: Path, whole: Path) -> None:
    before = answers_of(plain, None)
    assert np.abs(before.forces).max() > 0.02
    loaded = load_model(str(whole / 'checkpoint_0.pth'))
    assert loaded.fidelities == NAMES
    assert_same(answers_of(loaded, 'pbe'), before)
    new = answers_of(loaded, 'r2scan')
    np.testing.assert_allclose(new.forces, before.forces, atol=5e-6)


def test_energies_of_the_elements_are_recovered(plain: Path, whole: Path) -> None:
    """Structures that are in no file have the energies their labels would have."""
    loaded = load_model(str(whole / 'checkpoint_0.pth'))
    atoms = mixed(3, seed=5)
    offset = [sum(OFFSETS[s] for s in a.symbols) for a in atoms]
    new, before = (
        answers_of(loaded, 'r2scan', atoms), answers_of(plain, None, atoms)
    )
    off = (new.energy - before.energy - offset) / new.n_atoms
    assert np.abs(off).max() < 1e-3
    report = loaded.provenance['reference_energies']['r2scan']
    for symbol, energy in SHIFT.items():
        wanted = energy + OFFSETS[symbol]
        assert report[symbol]['energy'] == pytest.approx(wanted, abs=5e-3)
    shift = loaded.model.get_parameter('rescale_atomic_energy.shift')
    wanted = [SHIFT[symbol] for symbol in sorted(SHIFT)]
    assert torch.equal(shift[0], torch.tensor(wanted))  # to the last bit


def test_numbers_in_the_yaml_are_kept(
    plain: Path, files: list[str], tmp_path: Path
) -> None:
    sections = options(plain, files)
    sections['data']['fidelity'] = {'reference_energies': {'r2scan': {'N': -5.25}}}
    config, start, _ = prepared(tmp_path, sections)
    column = config[KEY.TYPE_MAP][7]
    assert config[KEY.SHIFT][1][column] == -5.25
    assert start.weights['rescale_atomic_energy.shift'][1, column] == -5.25
    assert config[KEY.SHIFT][0][column] == pytest.approx(SHIFT['N'])


def test_the_architecture_is_the_checkpoints(plain: Path, whole: Path) -> None:
    theirs = checkpoint_file.load(str(plain))['config']
    ours = checkpoint_file.load(str(whole / 'checkpoint_best.pth'))['config']
    for key in (KEY.NODE_FEATURE_MULTIPLICITY, KEY.LMAX, KEY.TYPE_MAP, KEY.CUTOFF):
        assert ours[key] == theirs[key]
    assert ours[keys.FIDELITY_DATA]['order'] == list(NAMES)


@pytest.mark.parametrize('encoding', ['bias', 'lora'])
def test_a_checkpoint_of_two_fidelities(
    files: list[str], tmp_path: Path, encoding: str
) -> None:
    two = pretrained(tmp_path, NAMES, encoding)
    sections = extending(two, *files, fidelity='hse', start_from='r2scan')
    trained_in(tmp_path, sections)
    loaded = load_model(str(tmp_path / 'checkpoint_0.pth'))
    assert loaded.fidelities == (*NAMES, 'hse')
    for name in NAMES:
        assert_same(answers_of(loaded, name), answers_of(two, name))
    new, source = answers_of(loaded, 'hse'), answers_of(two, 'r2scan')
    np.testing.assert_allclose(new.forces, source.forces, atol=5e-6)
    best = load_model(str(tmp_path / 'checkpoint_best.pth'))
    assert list(best.provenance['drift']) == list(NAMES)  # both are watched
    own = best.config[keys.FIDELITY_MODEL]
    assert own['encoding'] == encoding


# ---- what trains


def test_the_new_fidelity_and_the_others_train(whole: Path) -> None:
    first, last = (
        load_model(str(whole / f'checkpoint_{i}.pth')).model.state_dict()
        for i in (0, 2)
    )
    name = '0_self_interaction_1.linear.weight'
    assert not torch.equal(first[name], last[name])


def test_fidelity_only_leaves_the_rest_as_it_was(
    plain: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[int] = []
    init = FidelityTrainer.__init__

    def watched(self: Any, *args: Any) -> None:
        init(self, *args)
        groups = self.optimizer.param_groups
        own = {id(p) for p in theta_of(self.module, 1)}
        assert {id(p) for group in groups for p in group['params']} == own
        held.append(len(own))

    monkeypatch.setattr(FidelityTrainer, '__init__', watched)
    limit = {'energy': 1e-3, 'force': 1e-3}
    sections = options(plain, files, update='fidelity_only', max_drift=limit)
    trained_in(tmp_path, sections)
    assert held
    models = [
        load_model(str(tmp_path / f'checkpoint_{i}.pth')).model for i in (0, 2)
    ]
    own = {id(p) for p in theta_of(models[0], 1)}
    changed = {
        name: not torch.equal(a, b)
        for (name, a), b in zip(
            models[0].named_parameters(), models[1].parameters(), strict=True
        )
    }
    for name, parameter in models[0].named_parameters():
        if id(parameter) not in own:
            assert not changed[name], name
    assert any(changed.values())
    a, b = (answers_of(tmp_path / f'checkpoint_{i}.pth', 'pbe') for i in (0, 2))
    assert np.array_equal(a.energy, b.energy)
    drift = load_model(str(tmp_path / 'checkpoint_best.pth')).provenance['drift']
    row = drift['pbe']['energy']
    assert row['after'] == pytest.approx(row['before'], abs=1e-3)


# ---- interruption


@pytest.mark.parametrize('number', [2, 7])
def test_an_interrupted_run_is_resumed(
    plain: Path,
    files: list[str],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """After the step that is under way; 5 steps make an epoch."""
    sections, done = options(plain, files), []
    step = FidelityTrainer.step

    def counted(self: Any, *args: Any) -> Any:
        done.append(1)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    monkeypatch.setattr(FidelityTrainer, 'step', counted)
    with pytest.raises(TrainingStopped, match=f'of epoch {1 + number // 5}'):
        trained_in(tmp_path, sections)
    trained_in(tmp_path, sections, resume=True)
    assert len(done) == 10
    for name in ('checkpoint_best.pth', 'checkpoint_resume.pth'):
        paths = (tmp_path / name, whole / name)
        ours, theirs = (checkpoint_file.load(str(path)) for path in paths)
        assert same(ours['model_state_dict'], theirs['model_state_dict'])
        drift = [c['config'][keys.PROVENANCE]['drift'] for c in (ours, theirs)]
        assert drift[0] == drift[1]
    for name in ('lc.csv', 'drift.csv'):
        assert (tmp_path / name).read_text() == (whole / name).read_text()


# ---- what cannot be


def test_an_element_the_checkpoint_lacks(plain: Path, tmp_path: Path) -> None:
    file = str(MOLECULES / 'pbe_valid.extxyz')
    with pytest.raises(UserError, match='does not know H, C, .*Remove them'):
        prepared(tmp_path, extending(plain, file, known_as='pbe'))
    replay = {'file': str(INGAN / 'pbe_valid.extxyz')}
    sections = extending(plain, file, known_as='pbe', replay=replay)
    with pytest.raises(UserError, match='extxyz:0: the model does not know H, C'):
        prepared(tmp_path, sections)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ('independent', "'independent' cannot be combined .*Remove the"),
        ({'pbe': {'In': -2.0}}, r'reference_energies.pbe comes from .*Remove it'),
    ],
)
def test_references_that_cannot_be(
    plain: Path, files: list[str], tmp_path: Path, given: Any, words: str
) -> None:
    sections = options(plain, files)
    sections['data']['fidelity'] = {'reference_energies': given}
    with pytest.raises(UserError, match=words):
        prepared(tmp_path, sections)


def test_weights_that_the_plan_would_lose(files: list[str], tmp_path: Path) -> None:
    two = pretrained(tmp_path, NAMES)
    model = {'fidelity': {'sites': ['output']}}
    with pytest.raises(UserError, match=r'sites lacks .*leave sites out'):
        prepared(tmp_path, extending(two, *files, fidelity='hse', model=model))
