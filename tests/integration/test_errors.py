"""What a user gets wrong is one clear line, and nothing is lost (point 12)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from commandline import (
    RESUME_FILE,
    progress_of,
    run,
    small_yaml,
    snapshot,
    write_yaml,
)

from sevennet_mf.cli import main

Yaml = dict[str, Any]
# what an earlier run left in the folder
EARLIER = ('lc.csv', 'log.sevenn', 'checkpoint_best.pth', 'sevenn_data/other')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the files of an earlier run in `out`."""
    monkeypatch.chdir(tmp_path)
    for name in EARLIER:
        path = tmp_path / 'out' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'earlier {name}')
    with helpers.registered():
        yield tmp_path


@pytest.fixture(scope='module')
def pth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that are taken for a checkpoint."""
    folder = tmp_path_factory.mktemp('checkpoints')
    model, config = helpers.trained('bias')
    good = helpers.save_checkpoint(folder / 'good.pth', model, config)
    names = ('text', 'truncated', 'tensor')
    files = {name: folder / f'{name}.pth' for name in names}
    files['text'].write_text('not a checkpoint at all')
    files['truncated'].write_bytes(good.read_bytes()[:2000])
    torch.save(torch.zeros(3), files['tensor'])
    content = torch.load(good, weights_only=False)
    content['fidelity_training_state'] = {}
    content['config']['version'] = '99.0.0'
    files['newer'] = folder / 'newer.pth'
    torch.save(content, files['newer'])
    return files


def first_file(yaml: Yaml, path: object) -> None:
    yaml['data']['load_trainset_path'][0]['file'] = str(path)


def changed_data(yaml: Yaml, change: Callable[[list[Atoms]], None]) -> None:
    """The training data of PBE, with an error in its third structure."""
    frames = read(helpers.INGAN / 'pbe_train.extxyz', ':6')
    change(frames)
    write('bad.extxyz', frames)
    first_file(yaml, 'bad.extxyz')


# ---- the YAML and the files it names


def no_data_file(yaml: Yaml) -> str:
    first_file(yaml, helpers.INGAN / 'pbe_trian.extxyz')
    return "no such file: .*pbe_trian.extxyz. Did you mean 'pbe_train.extxyz'"


def unreadable_text(yaml: Yaml) -> str:
    Path('bad.extxyz').write_text('8\nLattice="1 0 0"\nGa nonsense\n')
    first_file(yaml, 'bad.extxyz')
    return 'bad.extxyz cannot be read'


def unreadable_graphs(yaml: Yaml) -> str:
    folder = Path('sevenn_data')
    folder.mkdir()
    (folder / 'bad.pt').write_bytes(b'\x80\x02nonsense')
    (folder / 'bad.yaml').write_text('cutoff: 4.0\n')
    first_file(yaml, folder / 'bad.pt')
    return 'bad.pt cannot be read'


def unknown_key(yaml: Yaml) -> str:
    yaml['train']['epochs'] = yaml['train'].pop('epoch')
    return "train.epochs is not a known key. Did you mean 'epoch'"


def empty_file(yaml: Yaml) -> str:
    Path('bad.extxyz').touch()
    first_file(yaml, 'bad.extxyz')
    return 'bad.extxyz'


# ---- fidelities


def fidelity_missing(yaml: Yaml) -> str:
    del yaml['data']['load_trainset_path'][1]['fidelity']
    return r'data.load_trainset_path\[1\].fidelity is missing. Name the fidelity'


def fidelity_misspelt(yaml: Yaml) -> str:
    yaml['data']['load_validset_path'][1]['fidelity'] = 'r2scna'
    return "validset_path.*must be one of.*got 'r2scna'. Did you mean 'r2scan'"


def fidelity_misspelt_in_data(yaml: Yaml) -> str:
    def change(frames: list[Atoms]) -> None:
        for i, atoms in enumerate(frames):
            atoms.info['level'] = 'pbee' if i == 2 else 'pbe'

    changed_data(yaml, change)
    del yaml['data']['load_trainset_path'][0]['fidelity']
    yaml['data']['fidelity'] = {'key': 'level', 'order': ['pbe', 'r2scan']}
    return "bad.extxyz:2: its fidelity must be one of .*Did you mean 'pbe'"


def fidelity_missing_in_data(yaml: Yaml) -> str:
    del yaml['data']['load_trainset_path'][0]['fidelity']
    yaml['data']['fidelity'] = {'key': 'level', 'order': ['pbe', 'r2scan']}
    return "pbe_train.extxyz:0 has no fidelity: its info has no 'level'"


def target_misspelt(yaml: Yaml) -> str:
    yaml['train']['fidelity']['target'] = 'R2SCAN'
    return "train.fidelity.target must be one of.*Did you mean 'r2scan'"


def target_without_data(yaml: Yaml) -> str:
    yaml['data']['fidelity'] = {'order': ['pbe', 'r2scan', 'hse']}
    yaml['train']['fidelity']['target'] = 'hse'
    return "train.fidelity.target names 'hse', but data.load_trainset_path has no"


def order_without_data(yaml: Yaml) -> str:
    yaml['data']['fidelity'] = {'order': ['pbe', 'r2scan', 'hse']}
    return r"data.load_trainset_path has no structure of \['hse'\]"


def weight_of_unknown(yaml: Yaml) -> str:
    yaml['train']['fidelity']['loss_weight'] = {'r2scn': 2.0}
    return "train.fidelity.loss_weight.*'r2scn'. Did you mean 'r2scan'"


def sampling_of_unknown(yaml: Yaml) -> str:
    yaml['train']['fidelity']['sampling'] = {'pbe': 1, 'r2scan': 1, 'hse': 1}
    return "train.fidelity.sampling must be one of.*'hse'"


def weight_zero(yaml: Yaml) -> str:
    yaml['train']['fidelity']['loss_weight'] = {'pbe': 0}
    return 'train.fidelity.loss_weight.pbe: must be greater than 0, got 0'


def weight_negative(yaml: Yaml) -> str:
    yaml['train']['fidelity']['loss_weight'] = {'pbe': {'force': -1.0}}
    return 'loss_weight.pbe.force: must be greater than 0, got -1'


def sampling_zero(yaml: Yaml) -> str:
    yaml['train']['fidelity']['sampling'] = {'pbe': 0, 'r2scan': 1}
    return 'train.fidelity.sampling.pbe: must be greater than 0, got 0'


def host_key(yaml: Yaml) -> str:
    yaml['train']['use_modality'] = True
    return 'train.use_modality belongs to SevenNet.* cannot be used with'


def host_entry(yaml: Yaml) -> str:
    files = [{'file': str(helpers.INGAN / 'pbe_train.extxyz')}]
    block = {'data_modality': 'pbe', 'file_list': files}
    yaml['data']['load_trainset_path'][0] = block
    return "data.load_trainset_path: 'data_modality' belongs to SevenNet"


# ---- structures and labels


def no_energy(yaml: Yaml) -> str:
    def change(frames: list[Atoms]) -> None:
        frames[2].calc = None

    changed_data(yaml, change)
    return 'bad.extxyz:2 has no energy'


def unknown_element(yaml: Yaml) -> str:
    yaml['model']['chemical_species'] = ['Ga', 'N']
    return 'pbe_train.extxyz:[0-9]+: the model does not know In'


def label(name: str, value: float) -> Callable[[Yaml], str]:
    """One label of the third structure is `value`."""

    def change(frames: list[Atoms]) -> None:
        results = frames[2].calc.results
        if name == 'energy':
            results['energy'] = results['free_energy'] = value
        else:
            results[name] = np.array(results[name])
            results[name].flat[0] = value

    def case(yaml: Yaml) -> str:
        changed_data(yaml, change)
        return 'bad.extxyz:2'

    case.__name__ = f'{name}_{value}'
    return case


def on_top(yaml: Yaml) -> str:
    def change(frames: list[Atoms]) -> None:
        frames[2].positions[1] = frames[2].positions[0]

    changed_data(yaml, change)
    return 'bad.extxyz:2.*(on top|apart|Å)'


TRAIN = [
    no_data_file,
    unreadable_text,
    unreadable_graphs,
    unknown_key,
    empty_file,
    fidelity_missing,
    fidelity_misspelt,
    fidelity_misspelt_in_data,
    fidelity_missing_in_data,
    target_misspelt,
    target_without_data,
    order_without_data,
    weight_of_unknown,
    sampling_of_unknown,
    weight_zero,
    weight_negative,
    sampling_zero,
    host_key,
    host_entry,
    no_energy,
    unknown_element,
    label('energy', np.nan),
    label('energy', -1e9),
    label('forces', np.nan),
    label('forces', np.inf),
    label('forces', 1e7),
    label('stress', np.nan),
    label('stress', 1e6),
    on_top,
]


def assert_one_line(
    words: list[object],
    pattern: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    code: int = 2,
) -> None:
    """A command fails with one line, and what was in `folder` stays as it was."""
    before = snapshot(folder)
    assert main([str(word) for word in words]) == code
    shown = capsys.readouterr()
    assert shown.err.count('\n') == 1, shown.err
    assert shown.err.startswith('sevennet-mf: ')
    assert 'Traceback' not in shown.err + shown.out
    assert re.search(pattern, shown.err), shown.err
    after = snapshot(folder)
    assert {name: after.get(name) for name in before} == before
    # a log, and processed data, which a later run may use
    for name in set(after) - set(before):
        assert name.startswith(('out/log', 'out/sevenn_data/fidelity_')), name


@pytest.mark.parametrize('case', TRAIN, ids=lambda case: case.__name__)
def test_train(
    case: Callable[[Yaml], str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = small_yaml()
    pattern = case(yaml)
    path = write_yaml(folder / 'input.yaml', yaml)
    assert_one_line(['train', path, '-w', 'out'], pattern, folder, capsys)


@pytest.mark.parametrize(
    ('content', 'pattern'),
    [
        (None, 'no such file: input.yaml'),
        (b'model: [', 'input.yaml is not valid YAML'),
        (b'\xff\xfe\x00', 'input.yaml (cannot be read|is not valid YAML)'),
        (b'', 'input.yaml must have the sections model, train and data'),
        (b'model: {fidelity: {}}\nextra: 1\n', "section of the YAML.*got 'extra'"),
    ],
    ids=['missing', 'broken', 'binary', 'empty', 'section'],
)
@pytest.mark.parametrize('command', ['train', 'inspect'])
def test_yaml(
    command: str,
    content: bytes | None,
    pattern: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (folder / 'input.yaml').write_bytes(content)
    assert_one_line([command, 'input.yaml'], pattern, folder, capsys)


@pytest.mark.parametrize(
    ('file', 'pattern'),
    [
        ('text', 'text.pth is not a SevenNet checkpoint'),
        ('truncated', 'truncated.pth is not a SevenNet .*, or it is truncated'),
        ('tensor', 'tensor.pth is not a SevenNet checkpoint'),
        ('newer', 'newer.pth was written by sevenn 99.0.0, newer than the'),
        ('absent', 'no such file.*absent.pth'),
    ],
)
@pytest.mark.parametrize('use', ['continue', 'resume', 'evaluate', 'info'])
def test_checkpoint(
    use: str,
    file: str,
    pattern: str,
    pth: dict[str, Path],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = pth.get(file, folder / 'absent.pth')
    yaml = small_yaml()
    if use == 'continue':
        yaml['train']['continue'] = {'checkpoint': str(path)}
    written = write_yaml(folder / 'input.yaml', yaml)
    words: list[object] = ['train', written, '-w', 'out']
    if use == 'resume':
        words.append('--resume')
        pattern = pattern.replace(f'{file}.pth', RESUME_FILE)
        if path.exists():
            (folder / 'out' / RESUME_FILE).write_bytes(path.read_bytes())
    elif use == 'evaluate':
        data = helpers.INGAN / 'pbe_valid.extxyz'
        words = ['evaluate', path, data, '-f', 'pbe', '-o', 'out']
    elif use == 'info':
        words = ['info', path]
    assert_one_line(words, pattern, folder, capsys)


@pytest.mark.parametrize('command', ['train', 'evaluate'])
@pytest.mark.parametrize('where', ['file', 'file/below', '/proc/below'])
def test_a_folder_that_cannot_be_written(
    where: str,
    command: str,
    pth: dict[str, Path],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / 'file').write_text('a file, not a folder')
    words: list[object] = ['train', write_yaml(folder / 'a.yaml', small_yaml())]
    words += ['-w', where]
    if command == 'evaluate':
        good = pth['text'].with_name('good.pth')
        words = ['evaluate', good, helpers.INGAN / 'pbe_valid.extxyz', '-f', 'pbe']
        words += ['-o', where]
    assert_one_line(words, f'{where} cannot be', folder, capsys)


# Files may not grow beyond so many bytes: what a full disk does, without one
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from sevennet_mf.cli import main
sys.exit(main())
"""


def test_a_full_folder(tmp_path: Path) -> None:
    """A checkpoint that does not fit leaves the earlier one whole."""
    yaml = small_yaml()
    yaml['train']['epoch'] = 1
    path = write_yaml(tmp_path / 'input.yaml', yaml)
    words = ['train', path, '-w', tmp_path / 'out']
    helpers.train_here(*words[1:], cwd=tmp_path)
    before = checkpoints(tmp_path / 'out')
    assert {'checkpoint_0.pth', 'checkpoint_best.pth', RESUME_FILE} <= set(before)
    yaml['train']['epoch'] = 2
    write_yaml(tmp_path / 'input.yaml', yaml)
    limit = min(map(len, before.values())) // 2
    command = [sys.executable, '-c', LIMITED, str(limit)]
    for more, folder in ((['--resume'], 'out'), ([], 'out/earlier_1')):
        result = run(*words, *more, command=command)
        assert result.returncode == 2, result.stderr
        *warned, error = result.stderr.splitlines()
        assert len(warned) == (folder != 'out')  # where the earlier ones are now
        assert re.search('checkpoint_.*.pth cannot be written', error)
        assert 'Earlier files are untouched' in error
        assert checkpoints(tmp_path / folder) == before
    assert progress_of(tmp_path / 'out' / 'earlier_1') == (2, 0)


def checkpoints(folder: Path) -> dict[str, bytes]:
    """Checkpoints, whole or not, by name."""
    kept = ('.pth', '.part')
    return {n: c for n, c in snapshot(folder).items() if n.endswith(kept)}


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_without_permission(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chmod(folder / 'out', 0o500)
    path = write_yaml(folder / 'input.yaml', small_yaml())
    assert_one_line(['train', path, '-w', 'out'], 'cannot be', folder, capsys)
