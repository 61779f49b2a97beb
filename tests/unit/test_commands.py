"""What each command does with what was parsed, without a long run."""

from __future__ import annotations

import argparse
import copy
import errno
import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import helpers
import pytest
import sevenn._keys as KEY
import torch
from commandline import MODEL, entry, run, small_yaml, snapshot, write_yaml

import sevennet_mf
import sevennet_mf.info
from sevennet_mf import cli, keys
from sevennet_mf.cli import commands
from sevennet_mf.config import inputs
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.kernels import library
from sevennet_mf.train import launch
from sevennet_mf.train import run as run_module


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    with helpers.registered():
        yield


def parse(*words: object) -> Any:
    return cli.make_parser().parse_args([str(word) for word in words])


def plain_yaml() -> dict[str, Any]:
    """A host YAML without a fidelity."""
    return {
        'model': copy.deepcopy(MODEL),
        'train': {'epoch': 1, 'scheduler_param': {'gamma': 0.9}},
        'data': {
            'load_trainset_path': [str(helpers.INGAN / 'r2scan_valid.extxyz')]
        },
    }


# ---- train, on the host's path


def test_a_plain_yaml_goes_to_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sevenn.main.sevenn as host

    seen = []
    monkeypatch.setattr(host, 'run', seen.append)
    args = parse('train', write_yaml(tmp_path / 'a.yaml', plain_yaml()))
    commands.run(args)
    assert seen == [args]


def test_a_training_of_the_host_leaves_nothing_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host has one configuration in a process, which it only adds to."""
    import sevenn.main.sevenn as host

    seen = []

    def run_as_host(args: argparse.Namespace) -> None:
        seen.append(dict(host.global_config))
        host.global_config['load_testset_path'] = ['of this run']

    monkeypatch.setattr(host, 'run', run_as_host)
    args = parse('train', write_yaml(tmp_path / 'a.yaml', plain_yaml()))
    for _ in range(2):
        commands.run(args)
    assert seen[0] == seen[1] == host.global_config
    assert 'version' in host.global_config


def test_a_fidelity_yaml_does_not_go_to_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sevenn.main.sevenn as host

    seen: list[Any] = []
    monkeypatch.setattr(host, 'run', lambda args: pytest.fail('the host'))
    monkeypatch.setattr(run_module, 'train', lambda *args: seen.append(args))
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    began = inputs.from_sections(small_yaml())[1]
    began[KEY.FORCE_WEIGHT] = 0.3
    began[keys.DEFAULTS]['recipe'][KEY.FORCE_WEIGHT] = 0.3
    saved = {'config': began, 'model_state_dict': {'w': 0}, keys.TRAINING_STATE: {}}
    torch.save(saved, tmp_path / 'checkpoint_resume.pth')
    commands.run(parse('train', path, '-w', tmp_path, '--resume'))
    [(asked, working_dir, process, resume)] = seen
    config = asked.host
    assert config[KEY.FORCE_WEIGHT] == 0.3  # what the run began with
    assert config[KEY.MODAL_MAP] == {'pbe': 0, 'r2scan': 1}
    assert config[KEY.RANDOM_SEED] == 1
    assert (working_dir, process.rank, resume) == (str(tmp_path), 0, True)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--resume'], '--resume needs a `fidelity` block'),
        (['-d', '--distributed_backend', 'gloo'], 'the backends nccl and mpi'),
        (['-d'], 'RANK is not set. Start with: torchrun'),
        (['-cueq'], 'cuEquivariance was requested'),
        (['-flashTP'], 'FlashTP was requested'),
        (['-oeq'], 'OpenEquivariance was requested'),
    ],
)
def test_options_the_host_cannot_take(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_accelerators(monkeypatch)
    monkeypatch.delenv('RANK', raising=False)
    path = write_yaml(tmp_path / 'a.yaml', plain_yaml())
    args = parse('train', path, '-w', tmp_path / 'out', *options)
    with pytest.raises(UserError, match=words.replace('(', '.')):
        commands.run(args)
    assert not (tmp_path / 'out').exists()


def test_what_the_host_cannot_read_is_an_error_with_its_reason(
    tmp_path: Path,
) -> None:
    yaml = plain_yaml()
    yaml['train']['error_record'] = [['Energy', 'RMS']]
    path = write_yaml(tmp_path / 'a.yaml', yaml)
    with pytest.raises(UserError, match='could not read .*a.yaml: .*RMS'):
        commands.run(parse('train', path, '-w', tmp_path))


@pytest.mark.parametrize(
    ('train', 'words'),
    [
        ({}, 'train.scheduler_param.gamma is missing: scheduler exponentiallr'),
        ({'scheduler': 'StepLR'}, 'train.scheduler_param.step_size is missing'),
        ({'scheduler': 'exponentiallr', 'scheduler_param': {'gamma': 0.9}}, None),
        ({'continue': {'checkpoint': 'a.pth'}}, None),  # perhaps in there
        ({'scheduler': 'unheard of'}, None),  # the host says so
    ],
)
def test_what_the_host_would_miss_at_the_end_is_said_first(
    train: dict[str, Any],
    words: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sevenn.main.sevenn as host

    seen = []
    monkeypatch.setattr(host, 'run', seen.append)
    yaml = plain_yaml()
    yaml['train'] = {'epoch': 1, **train}
    args = parse('train', write_yaml(tmp_path / 'a.yaml', yaml), '-w', tmp_path)
    if words is None:
        commands.run(args)
        assert seen == [args]
        return
    with pytest.raises(UserError, match=words):
        commands.run(args)
    assert not seen


def test_the_hosts_training_with_the_kernel(tmp_path: Path) -> None:
    """In a process of its own, as a user starts it."""
    path = write_yaml(tmp_path / 'a.yaml', plain_yaml())
    done = run('train', path, '-w', tmp_path, env={library.SWITCH: 'always'})
    assert done.returncode == 0, done.stderr
    log = tmp_path / 'log.sevenn'
    said = log.read_text()
    assert f'fused kernel ({library.instruction_set()})' in said
    assert 'there is no checkpoint_best.pth' in done.stdout
    best = tmp_path / 'checkpoint_best.pth'
    best.touch()
    said = launch._closing_of_host(str(tmp_path))
    assert said.endswith(f'sevennet-mf info {best}')
    # SevenNet's files are what torch_geometric may read without a doubt
    assert 'Weights only' not in done.stderr


@pytest.mark.parametrize('yaml', ['plain', 'fidelity'])
@pytest.mark.parametrize('name', [library.SWITCH, library.INSTRUCTION_SET])
def test_a_switch_without_meaning_is_refused_before_data_are_read(
    yaml: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(library.SWITCH, 'always')
    monkeypatch.setenv(name, 'bad')
    library.library.cache_clear()
    sections = plain_yaml() if yaml == 'plain' else small_yaml()
    path = write_yaml(tmp_path / 'a.yaml', sections)
    with pytest.raises(UserError, match=f"{name} must be .*'bad'"):
        commands.run(parse('train', path, '-w', tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
    with pytest.raises(UserError, match=f"{name} must be .*'bad'"):
        commands.run(parse('init', 'pbe=nowhere.extxyz'))


def test_the_hosts_traps_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sevenn.main.sevenn as host

    monkeypatch.setattr(host, 'run', lambda args: None)
    yaml = plain_yaml()
    yaml['train']['use_modality'] = True
    path = write_yaml(tmp_path / 'a.yaml', yaml)
    with pytest.warns(UserWarning, match='no set is named exactly'):
        commands.run(parse('train', path))


# ---- train, on ours


def without_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    import sevenn.nn.cue_helper
    import sevenn.nn.flash_helper
    import sevenn.nn.oeq_helper

    for module, name in (
        (sevenn.nn.cue_helper, 'is_cue_available'),
        (sevenn.nn.flash_helper, 'is_flash_available'),
        (sevenn.nn.oeq_helper, 'is_oeq_available'),
    ):
        monkeypatch.setattr(module, name, lambda: False)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['-m', 'train_v1'], '-m train_v1 does not support fidelities'),
        (['-cueq'], 'cuEquivariance was requested, but it is not installed'),
        (['-flashTP'], 'FlashTP was requested, but it is not installed'),
        (['-oeq'], 'OpenEquivariance was requested, but it is not installed'),
        (['-oeq', '-cueq'], 'only one accelerator at a time'),
    ],
)
def test_options_that_cannot_be_had(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_accelerators(monkeypatch)
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    args = parse('train', path, '-w', tmp_path / 'out', *options)
    with pytest.raises(UserError, match=words):
        commands.run(args)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('block', 'words'),
    [
        ({'cuequivariance_config': {'use': True}}, 'cuEquivariance was requested'),
        ({'use_flash_tp': True}, 'FlashTP was requested'),
        ({'use_oeq': True}, 'OpenEquivariance was requested'),
    ],
    ids=['cueq', 'flash', 'oeq'],
)
def test_an_accelerator_of_the_yaml_that_is_missing(
    block: dict[str, Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host's own builder would go on without it."""
    without_accelerators(monkeypatch)
    yaml = small_yaml()
    yaml['model'].update(block)
    path = write_yaml(tmp_path / 'a.yaml', yaml)
    with pytest.raises(UserError, match=words):
        commands.run(parse('train', path, '-w', tmp_path / 'out'))


@pytest.mark.parametrize(
    ('option', 'module', 'available', 'key', 'value'),
    [
        (
            *('-cueq', 'cue', 'is_cue_available'),
            *(KEY.CUEQUIVARIANCE_CONFIG, {'use': True}),
        ),
        ('-flashTP', 'flash', 'is_flash_available', KEY.USE_FLASH_TP, True),
        ('-oeq', 'oeq', 'is_oeq_available', KEY.USE_OEQ, True),
    ],
)
def test_an_accelerator_that_is_there_is_used(
    option: str,
    module: str,
    available: str,
    key: str,
    value: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = f'sevenn.nn.{module}_helper.{available}'
    monkeypatch.setattr(helper, lambda: True)
    seen: list[Any] = []
    monkeypatch.setattr(run_module, 'train', lambda *args: seen.append(args))
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    commands.run(parse('train', path, '-w', tmp_path, option))
    assert seen[0][0].host[key] == value


@pytest.mark.parametrize(
    'error', [UserError('a word'), TrainingStopped('a word'), ValueError('a word')]
)
def test_what_ends_a_run_is_in_its_log(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(run_module, 'train', fail)
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    with pytest.raises(type(error)):
        commands.run(parse('train', path, '-w', tmp_path, '-l', 'my.log'))
    assert (tmp_path / 'my.log').read_text().endswith('a word\n')


def test_a_disk_that_fills_up_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any line of the log may be the one that does not fit."""

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_module, 'train', fail)
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    with pytest.raises(UserError, match='cannot be written: No space left'):
        commands.run(parse('train', path, '-w', tmp_path))


def test_a_log_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, 'train', lambda *args: None)
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    (tmp_path / 'log.sevenn').write_text('earlier')
    commands.run(parse('train', path, '-w', tmp_path))
    assert (tmp_path / 'log.sevenn').read_text() == 'earlier'
    assert (tmp_path / 'log0.sevenn').read_text().startswith('SevenNet')


def test_the_log_is_shown_if_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_module, 'train', lambda *args: None)
    path = write_yaml(tmp_path / 'a.yaml', small_yaml())
    for option in ([], ['-s'], []):
        commands.run(parse('train', path, '-w', tmp_path, *option))
        assert ('chemical_species' in capsys.readouterr().out) == bool(option)


# ---- the other commands


def test_every_command_has_its_function() -> None:
    for command in commands.COMMANDS.values():
        module, function = command.code.split(':')
        assert callable(getattr(import_module(f'sevennet_mf.{module}'), function))


@pytest.mark.parametrize(
    ('told', 'shown', 'code'),
    [
        (None, '', 0),
        ('a', 'a\n', 0),
        (('a', 2), 'a\n', 2),
        (['a', 'b'], 'a\nb\n', 0),
        ((['a', 'b'], 1), 'a\nb\n', 1),
        (iter(['a', 'b']), 'a\nb\n', 0),
    ],
)
def test_what_a_command_returns_is_printed(
    told: Any,
    shown: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sevennet_mf.info, 'run', lambda args: told)
    assert commands.run(parse('info', 'a.pth')) == code
    assert capsys.readouterr().out == shown


@pytest.fixture(scope='module')
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, config = helpers.trained('bias')
    return helpers.save_checkpoint(
        tmp_path_factory.mktemp('model') / 'model.pth', model, config
    )


def test_info_as_table_and_as_json(
    model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(['info', str(model_file)]) == 0
    table = capsys.readouterr().out
    assert 'pbe, r2scan' in table
    assert cli.main(['info', str(model_file), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['fidelities'] == ['pbe', 'r2scan']


def test_evaluate_prints_a_table_and_writes_files(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = helpers.INGAN / 'mixing_r2scan.extxyz'
    words = ['evaluate', model_file, data, '-f', 'r2scan', '-o', tmp_path / 'out']
    assert cli.main([str(word) for word in words]) == 0
    shown = capsys.readouterr()
    assert 'r2scan' in shown.out
    assert 'meV/atom' in shown.out
    assert shown.err == ''
    files = set(snapshot(tmp_path / 'out'))
    assert files == {'errors.csv', 'per_structure.csv', 'parity_r2scan.png'}


def test_inspect_is_strict_on_request(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A training structure that recurs in the validation set is a problem."""
    monkeypatch.chdir(tmp_path)
    yaml = small_yaml()
    recurring = entry('ingan/pbe_train.extxyz', 'pbe', ':2')
    yaml['data']['load_validset_path'] = [recurring]
    path = write_yaml(tmp_path / 'a.yaml', yaml)
    codes = [cli.main(['inspect', path]), cli.main(['inspect', path, '--strict'])]
    assert codes == [0, 2]
    assert 'r2scan' in capsys.readouterr().out
    assert json.loads((tmp_path / 'inspect.json').read_text())
    assert (tmp_path / 'inspect.png').read_bytes().startswith(b'\x89PNG')


def test_every_command_registers_by_itself(model_file: Path) -> None:
    sevennet_mf.unregister()
    assert cli.main(['info', str(model_file)]) == 0
    assert cli.main(['info', str(model_file)]) == 0
