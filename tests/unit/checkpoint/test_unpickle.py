"""Files from somebody else: read without running what they bring along."""

import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import sevenn._const as const
import torch
from helpers import save_checkpoint, trained
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.train import dataload
from sevenn.train.dataset import AtomGraphDataset
from sevenn.train.graph_dataset import SevenNetGraphDataset

from sevennet_mf import DeltaCalculator, FidelityCalculator, host_traps
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.file import OpenedCheckpoint, load
from sevennet_mf.cli import main
from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.evaluation import evaluate
from sevennet_mf.info import info
from sevennet_mf.model.load import load_model
from sevennet_mf.train.loop.resume import random_state

PBE = Path(__file__).parents[2] / 'data/ingan/pbe_valid.extxyz'
RAN: list[str] = []  # what ran when a file was read


def note(text: str) -> str:
    RAN.append(text)
    return text


class Foreign:
    """Runs `note` when it is read."""

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return note, ('ran',)


class Harmless:
    """Of a class that nobody here knows."""


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, config = trained()
    path = tmp_path_factory.mktemp('unpickle') / 'checkpoint.pth'
    return save_checkpoint(path, model, config)


@pytest.fixture
def foreign(checkpoint: Path, tmp_path: Path) -> Path:
    """A good checkpoint with a foreign object in its configuration."""
    content = torch.load(checkpoint, weights_only=True)
    content['config']['note'] = Foreign()
    path = tmp_path / 'foreign.pth'
    torch.save(content, path)
    return path


@pytest.fixture(scope='module')
def graph_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('graphs')
    frames = ase.io.read(PBE, ':3')
    for atoms in frames:
        atoms.info |= {'note': np.float64(1), 'more': np.arange(3), 'word': 'a'}
    ase.io.write(root / 'a.extxyz', frames)
    files = [str(root / 'a.extxyz')]
    SevenNetGraphDataset(4.0, str(root), files, processed_name='set.pt')
    return root / 'sevenn_data'


# ------------------------------------------------------------- what is plain data


@pytest.mark.parametrize(
    'name',
    ['0_11Jul2024', '0_22May2024', 'l3i5', 'MF_0'],
)
def test_what_sevennet_ships(name: str) -> None:
    """It is read, and is to the host what its own reader makes of it."""
    path = getattr(const, f'SEVENNET_{name}')
    ours, theirs = OpenedCheckpoint(path, load(path)), SevenNetCheckpoint(path)
    told = [(file.epoch, file.time, file.hash) for file in (ours, theirs)]
    assert told[0] == told[1]
    assert str(ours.config) == str(theirs.config)
    assert set(vars(ours)) == {*vars(theirs), '_content'}
    for part in ('model_state_dict', 'optimizer_state_dict', 'scheduler_state_dict'):
        mine, wanted = getattr(ours, part), getattr(theirs, part)
        assert list(mine) == list(wanted)
    for key, value in theirs.model_state_dict.items():
        assert torch.equal(ours.model_state_dict[key], value), key


def test_the_content_stays_as_it_is(checkpoint: Path) -> None:
    content = load(str(checkpoint))
    before = str(content['config'])
    assert len(OpenedCheckpoint(str(checkpoint), content).config) > 0
    assert str(content['config']) == before


def test_what_training_writes(tmp_path: Path) -> None:
    """The states of every generator, numbers of numpy, and files of numpy 1."""
    random.seed(1)
    wanted = {
        'state': random_state(),
        'scalar': np.float64(0.5),
        'array': np.array([1.0, np.nan]),
        'names': np.array(['a', 'b']),
    }
    path = tmp_path / 'state.pth'
    torch.save(wanted, path)
    for name in (path, _as_numpy_1(path)):
        found = unpickle.read(str(name))
        assert found['scalar'] == 0.5
        assert found['state']['python'] == wanted['state']['python']  # type: ignore[index]
        np.testing.assert_array_equal(found['array'], wanted['array'])
        assert list(found['names']) == ['a', 'b']


def _as_numpy_1(path: Path) -> Path:
    """The same file as numpy before 2.0 writes it."""
    old = path.with_name('old.pth')
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, 'w') as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith('data.pkl'):
                assert b'numpy._core' in data
                data = data.replace(b'numpy._core', b'numpy.core')
            target.writestr(item, data)
    return old


def test_nothing_stays_allowed(checkpoint: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    load(str(checkpoint))
    assert set(torch.serialization.get_safe_globals()) == before
    with torch.serialization.safe_globals([np.ndarray]):  # of somebody else
        load(str(checkpoint))
        assert np.ndarray in torch.serialization.get_safe_globals()


# ------------------------------------------------------------------ what is code


def test_a_foreign_object_is_refused_by_its_name(foreign: Path) -> None:
    words = rf'foreign\.pth contains {__name__}\.note: .*run code.*--trust'
    with pytest.raises(UserError, match=words) as caught:
        load_model(str(foreign))
    assert '\n' not in str(caught.value)
    assert RAN == []


def test_a_foreign_class_is_refused_by_its_name(tmp_path: Path) -> None:
    torch.save({'config': Harmless(), 'also': Foreign()}, tmp_path / 'a.pth')
    words = rf'contains {__name__}\.Harmless, {__name__}\.note: '
    with pytest.raises(UserError, match=words):
        load(str(tmp_path / 'a.pth'))
    assert RAN == []


def _plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Foreign(), protocol=2))


def _newer_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Foreign(), protocol=5))


def _old_torch(path: Path) -> None:
    torch.save(Foreign(), path, _use_new_zipfile_serialization=False)


def _object_array(path: Path) -> None:
    torch.save(np.array([Foreign()]), path)


def _system(path: Path) -> None:
    class System:
        def __reduce__(self) -> tuple[Callable, tuple[str]]:
            return os.system, (f'touch {path}.ran',)

    torch.save(System(), path)


@pytest.mark.parametrize(
    'write', [_plain_pickle, _newer_pickle, _old_torch, _object_array, _system]
)
def test_no_form_of_a_file_runs_code(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / 'checkpoint_best.pth'
    write(path)
    with pytest.raises(UserError, match='contains|is not a SevenNet checkpoint'):
        load(str(path))
    with pytest.raises(UserError, match='contains|was not written by SevenNet'):
        unpickle.check(str(path))
    assert RAN == []
    assert list(tmp_path.iterdir()) == [path]


def test_who_made_the_file_trusts_it(
    foreign: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('sevennet_mf.evaluate.evaluation.parity', lambda *_: [])
    name = str(foreign)
    entry = {'file': str(PBE), 'index': '0', 'fidelity': 'pbe'}
    load_model(name, trust=True)
    info(name, trust=True)
    FidelityCalculator(name, 'pbe', 'cpu', trust=True)
    evaluate(name, [entry], str(tmp_path / 'e'), trust=True, progress=False)
    assert main(['info', name, '--trust']) == 0
    assert len(RAN) >= 5
    RAN.clear()
    for refused in (
        lambda: info(name),
        lambda: FidelityCalculator(name, 'pbe', 'cpu'),
        lambda: DeltaCalculator('7net-0', name, device='cpu'),
        lambda: evaluate(name, [entry], str(tmp_path / 'f')),
    ):
        with pytest.raises(UserError, match='contains'):
            refused()
    capsys.readouterr()
    assert main(['info', name]) == 2
    assert f'contains {__name__}.note' in capsys.readouterr().err
    assert RAN == []


def test_trust_ends_where_it_was_given(foreign: Path) -> None:
    with unpickle.trusting(), unpickle.trusting(False):
        assert unpickle.is_trusting()
    assert not unpickle.is_trusting()
    with pytest.raises(UserError, match='contains'):
        load(str(foreign))


# -------------------------------------------------------------------- data files


def _read(path: Path) -> list[Any]:
    entry = {'file': [str(path)], 'fidelity': 'pbe'}
    return list(read_entry(entry, None, ['pbe'], 4.0))


def test_graphs_of_sevennet(graph_folder: Path) -> None:
    assert len(_read(graph_folder / 'set.pt')) == 3


def test_graphs_with_code(graph_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'sevenn_data'
    shutil.copytree(graph_folder, folder)
    # torch_geometric reads this one whatever it holds
    torch.save(Foreign(), folder / 'pre_transform.pt')
    assert len(_read(folder / 'set.pt')) == 3
    packed, slices, kind = torch.load(folder / 'set.pt', weights_only=False)
    torch.save(({**packed, 'x': Foreign()}, slices, kind), folder / 'set.pt')
    RAN.clear()
    with pytest.raises(UserError, match=rf'set\.pt contains {__name__}\.note'):
        _read(folder / 'set.pt')
    assert RAN == []
    with unpickle.trusting():
        assert len(_read(folder / 'set.pt')) == 3


def test_graphs_of_the_old_form(tmp_path: Path) -> None:
    frames = dataload.ase_reader(str(PBE), index=':3')
    graphs = AtomGraphDataset(dataload.graph_build(frames, 4.0), 4.0)
    path = tmp_path / 'a.sevenn_data'
    torch.save(graphs, path)
    assert len(_read(path)) == 3
    graphs.meta['note'] = Foreign()
    torch.save(graphs, path)
    words = rf'a\.sevenn_data contains {__name__}\.note'
    with pytest.raises(UserError, match=words):
        _read(path)
    assert RAN == []


# ------------------------------------------------------- what SevenNet itself reads


def test_files_that_sevennet_reads_itself(
    foreign: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without fidelities the host trains, and opens files in its own way."""
    yaml = tmp_path / 'input.yaml'
    monkeypatch.chdir(tmp_path)
    for line, path in (
        (f'train: {{continue: {{checkpoint: {foreign}}}}}', foreign),
        ('data: {load_trainset_path: [{file: a.pt}]}', tmp_path / 'a.pt'),
        ('data: {load_trainset_path: ["b.*"]}', tmp_path / 'b.sevenn_data'),
        ('model: {}', tmp_path / 'sevenn_data/pre_filter.pt'),
    ):
        path.parent.mkdir(exist_ok=True)
        if path != foreign:
            torch.save(Foreign(), path)
        yaml.write_text(f'{line}\n')
        assert main(['train', str(yaml)]) == 2
        assert f'{path.name} contains {__name__}.note' in capsys.readouterr().err
        if path != foreign:
            path.unlink()
    assert RAN == []


def test_shipped_files_need_no_trust_in_the_host() -> None:
    sections = {'train': {'continue': {'checkpoint': '7net-0'}}}
    assert host_traps.pickled_files(sections, '.') == []
