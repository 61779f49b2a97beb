"""Old fidelities are replayed from files, or from labels of the checkpoint."""

from __future__ import annotations

import copy
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read
from helpers import NAMES
from pretrained_helpers import (
    OFFSETS,
    SELF_LABEL,
    extending,
    labelled,
    mixed,
    prepared,
    pretrained,
    trained_in,
)
from sevenn.train.graph_dataset import SevenNetGraphDataset

from sevennet_mf import keys
from sevennet_mf.config import inputs
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.continuing.replay import ReplayData
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop.resume import must_stay
from sevennet_mf.train.loop.trainer import FidelityTrainer

Sets = dict[str, FidelityDataset]


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp('plain'))


@pytest.fixture(scope='module')
def files(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Labels as the checkpoint gives them; `other`: those of another code."""
    folder = tmp_path_factory.mktemp('labels')

    def write(name: str, n: int, seed: int, **offsets: Any) -> str:
        return labelled(folder / name, mixed(n, seed), plain, None, **offsets)

    return {
        'train': write('train.xyz', 6, 0, offsets=OFFSETS),
        'valid': write('valid.xyz', 3, 1, offsets=OFFSETS),
        'pbe': write('pbe.xyz', 12, 2),
        'near': write('near.xyz', 12, 2, offsets=dict.fromkeys(OFFSETS, 0.02)),
        'other': write('other.xyz', 12, 2, offsets=OFFSETS),
    }


def replayed(
    folder: Path, plain: Path, files: dict[str, str], replay: Any, **train: Any
) -> tuple[dict[str, Any], Start, Sets]:
    given = {'known_as': 'pbe', 'replay': replay, **train}
    own = (files['train'], files['valid'])
    return prepared(folder, extending(plain, *own, **given))


def counts(sets: Sets, fidelity: str) -> dict[str, int]:
    return {name: len(dataset.rows_of(fidelity)) for name, dataset in sets.items()}


def residuals(start: Start, dataset: FidelityDataset, of: str = 'pbe') -> Any:
    """What labels of a fidelity are off by from the checkpoint, eV/atom."""
    rows = dataset.rows_of(of)
    found = start.predict(dataset.subset(rows))
    return (dataset.energy[rows] - found.energy) / dataset.n_atoms[rows]


# ---- what is trained on and what is held out


def test_a_file_is_replayed(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    replay = {'file': files['pbe'], 'held_out': 0.25}
    config, start, sets = replayed(tmp_path, plain, files, replay)
    assert counts(sets, 'pbe') == {'trainset': 9, 'validset': 0, 'drift': 3}
    assert counts(sets, 'r2scan') == {'trainset': 6, 'validset': 3, 'drift': 0}
    marks = [set(sets[n].fingerprint.tolist()) for n in ('trainset', 'drift')]
    assert not marks[0] & marks[1]
    for name in ('trainset', 'drift'):
        assert np.abs(residuals(start, sets[name])).max() < 1e-6
    found = config[keys.PROVENANCE]['data']
    assert found['drift']['pbe']['structures'] == 3
    assert found['trainset']['pbe']['structures'] == 9


def test_batches_limited_by_edges(
    plain: Path,
    files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hold both fidelities, and a run stopped between two ends the same."""
    limit, batches = 500, []
    step = FidelityTrainer.step

    def counted(self: Any, batch: Any, *args: Any) -> Any:
        assert batch['edge_index'].shape[1] <= limit
        batches.append(set(batch[keys.FIDELITY_INDEX].tolist()))
        if len(batches) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)

    monkeypatch.setattr(FidelityTrainer, 'step', counted)
    replay = {'file': files['pbe'], 'held_out': 0.25}
    given = {'known_as': 'pbe', 'replay': replay, 'sampling': 'balanced'}
    given |= {'batch_edges': limit, 'steps_per_epoch': 4}
    sections = extending(plain, files['train'], files['valid'], **given)
    del sections['data']['batch_size']
    whole = trained_in(tmp_path / 'whole', sections)
    assert len(batches) == 4
    assert set.union(*batches) == {0, 1}
    part = tmp_path / 'part'
    with pytest.raises(TrainingStopped, match='after step 2 of epoch 1'):
        trained_in(part, sections)
    trained_in(part, sections, resume=True)
    assert len(batches) == 8
    for name in ('lc.csv', 'drift.csv'):
        assert (part / name).read_text() == (whole / name).read_text()


def test_held_out_is_the_same_again(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    replay = {'file': files['pbe'], 'held_out': 0.25}
    held = []
    for folder in ('a', 'b'):
        _, _, sets = replayed(tmp_path / folder, plain, files, replay)
        held.append(sets['drift'].fingerprint.tolist())
    assert held[0] == held[1]


def test_structures_with_both_labels_are_not_held_out(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """Labels of few structures are inferred from; none of them is to be lost."""
    both = [*mixed(6, 0), *mixed(6, 2)]
    file = labelled(tmp_path / 'both.xyz', both, plain, None)
    replay = {'file': file, 'held_out': 0.5}
    _, _, sets = replayed(tmp_path / 'run', plain, files, replay)
    train, held = sets['trainset'], sets['drift']
    assert counts(sets, 'pbe') == {'trainset': 6, 'validset': 0, 'drift': 6}
    marks = [set(train.fingerprint[train.rows_of(n)]) for n in ('pbe', 'r2scan')]
    assert marks[0] == marks[1]
    assert not marks[0] & set(held.fingerprint)
    # unless there are too few others
    replay['held_out'] = 0.75
    _, _, sets = replayed(tmp_path / 'more', plain, files, replay)
    assert counts(sets, 'pbe') == {'trainset': 3, 'validset': 0, 'drift': 9}


def test_the_users_own_labels_of_an_old_fidelity_are_not_held_out(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    sections = extending(
        plain,
        files['train'],
        known_as='pbe',
        replay={'file': files['pbe'], 'index': '4:', 'held_out': 0.5},
    )
    own = {'file': files['pbe'], 'index': ':4', 'fidelity': 'pbe'}
    sections['data']['load_trainset_path'].append(own)
    _, _, sets = prepared(tmp_path, sections)
    assert counts(sets, 'pbe') == {'trainset': 8, 'drift': 4}
    sources = [sets['drift'].source(i) for i in range(4)]
    assert not {f'{files["pbe"]}:{i}' for i in range(4)} & set(sources)
    assert all(source.startswith(f'{files["pbe"]}:') for source in sources)


def test_self_labels_are_of_the_trained_structures(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    _, start, sets = replayed(tmp_path, plain, files, SELF_LABEL)
    (path,) = (tmp_path / 'sevenn_data').glob('self_labels_*.extxyz')
    frames = read(path, ':')
    own = read(files['train'], ':')
    assert len(frames) == 2 * len(own)  # themselves, and a copy of each
    for a, b in zip(frames[::2], own, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-6)
        assert list(a.symbols) == list(b.symbols)
    assert counts(sets, 'pbe') == {'trainset': 9, 'validset': 0, 'drift': 3}
    assert np.abs(residuals(start, sets['trainset'])).max() < 1e-6


def test_a_machine_that_does_not_see_the_self_labels_is_sent_them(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    said: list[Any] = []

    class First(Process):
        def share(self, make: Any) -> Any:
            said.append(copy.deepcopy(make()))
            return said[-1]

        def anywhere(self, here: bool) -> bool:
            return True

    class Elsewhere(Process):
        anywhere = First.anywhere

        def share(self, make: Any) -> Any:
            return copy.deepcopy(said.pop(0))

    start = make_start(
        inputs.read(
            extending(plain, files['train'], known_as='pbe', replay=SELF_LABEL)
        )
    )
    assert start is not None
    of_both: dict[str, Any] = {'world_size': 2, 'backend': 'gloo'}
    ReplayData(start, str(tmp_path / 'first'), First(**of_both))
    (there,) = (tmp_path / 'first' / 'sevenn_data').iterdir()
    content = there.read_bytes()
    there.unlink()
    other = ReplayData(
        start, str(tmp_path / 'other'), Elsewhere(rank=1, **of_both)
    )
    (here,) = (tmp_path / 'other' / 'sevenn_data').iterdir()
    assert here.read_bytes() == content
    assert other.entries['load_trainset_path'][-1]['file'] == [str(here)]


def test_self_labels_of_other_structures(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    options = {'structures': files['other'], 'per_structure': 0}
    replay = {'self_label': options, 'held_out': 0.5}
    _, start, sets = replayed(tmp_path, plain, files, replay)
    assert counts(sets, 'pbe') == {'trainset': 6, 'validset': 0, 'drift': 6}
    # the labels in that file are not read
    assert np.abs(residuals(start, sets['drift'])).max() < 1e-6


def test_each_old_fidelity_labels(files: dict[str, str], tmp_path: Path) -> None:
    two = pretrained(tmp_path, NAMES)
    for replay, wanted in (
        (SELF_LABEL, {'pbe': 12, 'r2scan': 12}),
        # pbe is watched on the structures that are trained on
        ({**SELF_LABEL, 'fidelity': 'r2scan'}, {'pbe': 6, 'r2scan': 12}),
    ):
        sections = extending(two, files['train'], fidelity='hse', replay=replay)
        _, _, sets = prepared(tmp_path, sections)
        for name, n in wanted.items():
            assert sum(counts(sets, name).values()) == n


def test_old_fidelities_without_a_replay_are_watched_beside_one(
    files: dict[str, str], tmp_path: Path
) -> None:
    sections = extending(
        pretrained(tmp_path, NAMES),
        files['train'],
        files['valid'],
        fidelity='hse',
        replay={'file': files['pbe'], 'fidelity': 'pbe', 'held_out': 0.25},
    )
    with pytest.warns(UserWarning, match="12 labels of 'pbe' differ"):
        _, start, sets = prepared(tmp_path, sections)
    assert counts(sets, 'pbe') == {'trainset': 9, 'validset': 0, 'drift': 3}
    assert counts(sets, 'r2scan') == {'trainset': 0, 'validset': 0, 'drift': 3}
    rows = sets['drift'].rows_of('r2scan')
    shown = sets['drift'].fingerprint[rows]
    assert sorted(shown) == sorted(sets['validset'].fingerprint)
    assert np.abs(residuals(start, sets['drift'], 'r2scan')).max() < 1e-6


def test_without_a_replay_old_fidelities_are_watched(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """On the validation structures, as the checkpoint labels them."""
    _, start, sets = replayed(tmp_path, plain, files, None)
    assert counts(sets, 'pbe') == {'trainset': 0, 'validset': 0, 'drift': 3}
    marks = [sorted(sets[n].fingerprint) for n in ('validset', 'drift')]
    assert marks[0] == marks[1]
    assert np.abs(residuals(start, sets['drift'])).max() < 1e-6


def test_fidelity_only_has_nothing_to_replay(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """Old labels cannot train the new weights; they are held out all the same."""
    _, _, sets = replayed(tmp_path, plain, files, SELF_LABEL, update='fidelity_only')
    assert counts(sets, 'pbe') == {'trainset': 0, 'validset': 0, 'drift': 3}
    assert counts(sets, 'r2scan') == {'trainset': 6, 'validset': 3, 'drift': 0}


def test_shares_of_what_fidelity_only_leaves_out(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    sections = extending(
        plain,
        files['train'],
        files['valid'],
        known_as='pbe',
        update='fidelity_only',
        sampling={'pbe': 3, 'r2scan': 1},
        replay={'file': files['pbe'], 'held_out': 0.25},
    )
    folder = trained_in(tmp_path, sections)
    assert (folder / 'checkpoint_best.pth').exists()


def test_cells_of_one_atom_differ_by_their_cell(plain: Path, tmp_path: Path) -> None:
    """The atom of each is at the origin."""
    atoms = [bulk('Ga', 'fcc', a=a) for a in (4.0, 4.2, 4.4, 4.4)]
    own = labelled(tmp_path / 'eos.xyz', atoms, plain, None, {'Ga': 1.0})
    replay = {'self_label': {'per_structure': 0}, 'held_out': 0.4}
    sections = extending(plain, own, known_as='pbe', replay=replay)
    _, _, sets = prepared(tmp_path, sections)
    assert counts(sets, 'pbe') == {'trainset': 2, 'drift': 1}


def test_zero_has_no_sign(plain: Path, tmp_path: Path) -> None:
    """The same structure in two files, one of which has -1e-5 Å for 0."""
    atoms = mixed(3, 0)
    atoms[0].positions[0] = 0.0
    again = atoms[0].copy()
    again.positions[0] = -1e-5
    own = labelled(tmp_path / 'own.xyz', [*atoms, again], plain, None, OFFSETS)
    replay = {'self_label': {'per_structure': 0}, 'held_out': 0.4}
    sections = extending(plain, own, known_as='pbe', replay=replay)
    _, _, sets = prepared(tmp_path, sections)
    assert counts(sets, 'pbe') == {'trainset': 2, 'drift': 1}


def test_a_file_is_of_what_is_not_trained(
    files: dict[str, str], tmp_path: Path
) -> None:
    """The fidelity that trains may be the base as well."""
    sections = extending(
        pretrained(tmp_path, NAMES),
        files['train'],
        fidelity='pbe',
        target='pbe',
        replay={'file': files['pbe'], 'held_out': 0.25},
    )
    sections['data']['fidelity'] = {'order': list(NAMES)}
    _, _, sets = prepared(tmp_path, sections)
    assert counts(sets, 'r2scan') == {'trainset': 9, 'drift': 3}
    assert counts(sets, 'pbe') == {'trainset': 6, 'drift': 0}
    sections['train']['fidelity']['replay']['fidelity'] = 'pbe'
    words = r"'pbe' is the fidelity being trained.*one of \['r2scan'\]"
    with pytest.raises(UserError, match=words):
        prepared(tmp_path, sections)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({'start_from': 'r2scan', 'target': 'r2scan'}, 'r2scan'),
        ({'target': 'pbe'}, 'pbe'),
    ],
)
def test_old_fidelities_are_replayed_whatever_the_target(
    files: dict[str, str], tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    sections = extending(
        pretrained(tmp_path, NAMES),
        files['train'],
        replay={'file': files['pbe']},
        fidelity='hse',
        **given,
    )
    train = inputs.from_sections(sections)[1]
    replay = train[keys.FIDELITY_TRAIN]['replay']
    assert replay['entry']['fidelity'] == replay['fidelity'] == expected


# ---- labels of another code


def test_labels_of_another_code_are_aligned(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    replay = {'file': files['other'], 'held_out': 0.25}
    words = r"12 labels of 'pbe' differ from .* by \d\.\d\d eV/atom"
    with pytest.warns(UserWarning, match=words):
        _, start, sets = replayed(tmp_path, plain, files, replay)
    for name in ('trainset', 'drift'):
        assert np.abs(residuals(start, sets[name])).max() < 2e-3
    new = sets['trainset'].rows_of('r2scan')  # whose labels stay as they are
    energies = [a.get_potential_energy() for a in read(files['train'], ':')]
    np.testing.assert_allclose(sets['trainset'].energy[new], energies)


def test_old_labels_for_validation_alone_are_aligned(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    sections = extending(plain, files['train'], known_as='pbe')
    own = {'file': files['other'], 'fidelity': 'pbe'}
    sections['data']['load_validset_path'] = [own]
    with pytest.warns(UserWarning, match=r"12 labels of 'pbe' differ from"):
        _, start, sets = prepared(tmp_path, sections)
    assert np.abs(residuals(start, sets['validset'])).max() < 2e-3
    # these are the checkpoint's own
    assert np.abs(residuals(start, sets['drift'])).max() < 1e-6


def test_labels_of_another_code_are_aligned_beside_self_labels(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """Self labels are the checkpoint's own, and stay."""
    sections = extending(
        plain, files['train'], files['valid'], known_as='pbe', replay=SELF_LABEL
    )
    own = {'file': files['other'], 'fidelity': 'pbe'}
    sections['data']['load_validset_path'].append({**own, 'index': ':4'})
    with pytest.warns(UserWarning, match=r"4 labels of 'pbe' differ from"):
        _, start, sets = prepared(tmp_path, sections)
    assert np.abs(residuals(start, sets['validset'])).max() < 2e-3
    for name in ('trainset', 'drift'):
        assert np.abs(residuals(start, sets[name])).max() < 1e-6
    sections['data']['load_trainset_path'].append({**own, 'index': '4:'})
    with pytest.warns(UserWarning, match=r"8 labels of 'pbe' differ from"):
        _, start, sets = prepared(tmp_path, sections)
    for name in ('trainset', 'validset'):
        assert np.abs(residuals(start, sets[name])).max() < 2e-3
    assert np.abs(residuals(start, sets['drift'])).max() < 1e-6


def test_labels_are_aligned_before_some_are_for_validation(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    ratio = {'data_divide_ratio': 0.25}
    sections = extending(
        plain, files['train'], known_as='pbe', replay=SELF_LABEL, data=ratio
    )
    own = {'file': files['other'], 'fidelity': 'pbe'}
    sections['data']['load_trainset_path'].append(own)
    with pytest.warns(UserWarning, match=r"12 labels of 'pbe' differ from"):
        _, start, sets = prepared(tmp_path, sections)
    for name in ('trainset', 'validset'):
        assert len(sets[name].rows_of('pbe'))
        assert np.abs(residuals(start, sets[name])).max() < 2e-3
    assert np.abs(residuals(start, sets['drift'])).max() < 1e-6


@pytest.mark.filterwarnings('ignore:Weights only load failed')  # of the host's file
def test_what_cannot_be_watched_does_not_stop_a_run(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """A SevenNet graph file keeps no cell."""
    SevenNetGraphDataset(
        cutoff=4.0,
        root=str(tmp_path),
        files=[files['train']],
        processed_name='graphs.pt',
    )
    made = str(tmp_path / 'sevenn_data' / 'graphs.pt')
    sections = extending(plain, made, known_as='pbe')
    words = r"drift of \['pbe'\] is not monitored. .* no cell"
    with pytest.warns(UserWarning, match=words):
        _, _, sets = prepared(tmp_path, sections)
    assert 'drift' not in sets
    sections['train']['fidelity']['max_drift'] = {'energy': 1.0}
    with pytest.raises(UserError, match='graph file has no cell'):
        prepared(tmp_path, sections)


def test_files_of_a_replay_may_move(plain: Path, files: dict[str, str]) -> None:
    """What a resumed run depends on is the content."""
    kept = []
    for replay in (
        {'file': files['pbe'], 'held_out': 0.25},
        {'file': files['near'], 'held_out': 0.25},
        {'file': files['pbe'], 'held_out': 0.5},
    ):
        sections = extending(plain, files['train'], known_as='pbe', replay=replay)
        config = inputs.read(sections).merged()
        config[keys.PROVENANCE] = {'files': {}}
        kept.append(must_stay(config, Process()))
    assert kept[0] == kept[1]
    assert kept[0] != kept[2]


def test_labels_that_are_nearly_the_checkpoints_stay(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    replay = {'file': files['near'], 'held_out': 0.25}
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        _, start, sets = replayed(tmp_path, plain, files, replay)
    off = residuals(start, sets['trainset'])
    np.testing.assert_allclose(off, 0.02, atol=1e-5)


# ---- what cannot be


def test_a_replay_without_a_common_element(plain: Path, tmp_path: Path) -> None:
    made = []
    for name, z in (('new', 49), ('old', 7)):
        atoms = mixed(4)
        for one in atoms:
            one.numbers[:] = z
        made.append(labelled(tmp_path / f'{name}.xyz', atoms, plain))
    replay = {'file': made[1], 'held_out': 0.25}
    words = (
        r"replay has no element of \['r2scan'\]: it contains N, the labels contain "
        'In. Replay structures similar to those'
    )
    sections = extending(plain, made[0], known_as='pbe', replay=replay)
    with pytest.raises(UserError, match=words):
        prepared(tmp_path, sections)


def test_nothing_to_watch_by(
    plain: Path, files: dict[str, str], tmp_path: Path
) -> None:
    replay = {'file': files['pbe'], 'held_out': 0.01}
    words = 'replay: 0.01 of 12 structures leaves none to measure .*Raise held_out'
    with pytest.raises(UserError, match=words):
        replayed(tmp_path, plain, files, replay)
