"""Several processes with the command line as users start them (point 10)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import (
    INGAN,
    Run,
    assert_same_run,
    assert_same_weights,
    finish,
    free_port,
    progress_of,
    small_yaml,
    snapshot,
    start,
    table,
    wait_in_epoch,
    waiting,
    write_yaml,
)
from helpers import structures, train_here
from pretrained_helpers import (
    OFFSETS,
    SELF_LABEL,
    extending,
    labelled,
    pretrained,
)

from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing.fisher import fisher_information

pytestmark = pytest.mark.slow

TORCHRUN = ['torchrun', '--nproc_per_node', '2', '--no_python']
TRAIN = ['sevennet-mf', 'train']
GLOO = ['-d', '--distributed_backend', 'gloo']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds bin/ with both programs, and the YAML files."""
    path = tmp_path_factory.mktemp('distributed')
    for program, module in (
        ('sevennet-mf', 'sevennet_mf.cli'),
        ('torchrun', 'torch.distributed.run'),
    ):
        script = path / 'bin' / program
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(0o755)
    yaml = small_yaml()
    yaml['model']['fidelity'] = {'encoding': 'gain'}
    yaml['train']['fidelity'].update(checkpoint_every=1, sampling='balanced')
    yaml['train']['epoch'] = 4
    yaml['data']['batch_size'] = 2
    write_yaml(path / 'input.yaml', yaml)
    yaml['data']['batch_size'] = 4
    write_yaml(path / 'joint.yaml', yaml)
    return path


def environment(folder: Path) -> dict[str, str]:
    path = f'{folder / "bin"}{os.pathsep}{os.environ["PATH"]}'
    # torchrun's own way to set --master_port: other tests may use the default
    return {'PATH': path, 'PET_MASTER_PORT': str(free_port())}


def begin(
    folder: Path, *args: str, train: Sequence[str] = TRAIN
) -> subprocess.Popen[str]:
    """Two processes on this machine."""
    command = [*TORCHRUN, *train]
    return start(*args, *GLOO, command=command, cwd=folder, env=environment(folder))


def on_two_nodes(folder: Path, yaml: list[Any], cwd: list[Path]) -> list[Run]:
    """A process on each of two nodes, with node0 and node1 for their output."""
    port = str(free_port())
    nodes = []
    for i in range(2):
        words = f'--nnodes 2 --node_rank {i} --nproc_per_node 1 --no_python'.split()
        words += ['--master_addr', '127.0.0.1', '--master_port', port]
        words += [*TRAIN, yaml[i], '-w', f'node{i}', *GLOO]
        env = {'PATH': environment(folder)['PATH']}
        nodes.append(start(*words, command=['torchrun'], cwd=cwd[i], env=env))
    return [finish(node) for node in nodes]


@pytest.fixture(scope='module')
def whole(folder: Path) -> Path:
    """The two processes that nobody interrupted."""
    result = finish(begin(folder, 'input.yaml', '-w', 'whole'))
    assert result.returncode == 0, result.stderr
    return folder / 'whole'


def test_two_processes_do_what_one_does_with_the_joint_batch(
    folder: Path, whole: Path
) -> None:
    train_here('joint.yaml', '-w', 'one', cwd=folder)
    assert_same_curve(whole, folder / 'one', 2e-4)
    states = [
        torch.load(path / 'checkpoint_best.pth', weights_only=False)
        for path in (folder / 'one', whole)
    ]
    weights, wanted = (state['model_state_dict'] for state in states)
    assert weights.keys() == wanted.keys()  # not those of a wrapper
    for name in wanted:
        torch.testing.assert_close(
            weights[name], wanted[name], rtol=1e-3, atol=1e-4, msg=name
        )


def assert_same_curve(folder: Path, other: Path, rtol: float) -> None:
    found, wanted = (table(path / 'lc.csv') for path in (folder, other))
    assert list(found) == list(wanted)
    for name in wanted:
        np.testing.assert_allclose(
            found[name], wanted[name], rtol=rtol, atol=2e-5, err_msg=name
        )


def test_extending_with_ewc_and_self_labels(folder: Path) -> None:
    """SevenNet's own EWC refuses several processes."""
    path = pretrained(folder)
    file = labelled(folder / 'labels.extxyz', structures(8), path, None, OFFSETS)
    fisher = fisher_information(load_model(str(path)), structures(2))
    torch.save(fisher, folder / 'fisher.pt')
    limit = {'energy': 1000.0}
    yaml = extending(
        path, file, file, known_as='pbe', replay=SELF_LABEL, max_drift=limit
    )
    ewc = {'fisher_information': 'fisher.pt', 'ewc_lambda': 1000.0}
    yaml['train']['continue'].update(ewc)
    # labels are what the checkpoint predicts: all that Adam has is rounding, and
    # Huber's loss weighs that of the stress most
    yaml['train'].update(epoch=3, loss='mse')
    for batch, name in ((2, 'extend'), (4, 'extend_joint')):
        yaml['data']['batch_size'] = batch
        write_yaml(folder / f'{name}.yaml', yaml)
    result = finish(begin(folder, 'extend.yaml', '-w', 'extended'))
    assert result.returncode == 0, result.stderr
    train_here('extend_joint.yaml', '-w', 'extended_by_one', cwd=folder)
    assert_same_curve(folder / 'extended', folder / 'extended_by_one', 1e-3)


def test_only_the_first_process_of_all_writes(folder: Path, whole: Path) -> None:
    """On two nodes both have local rank 0, and each its own disk here."""
    for result in on_two_nodes(folder, ['input.yaml'] * 2, [folder] * 2):
        assert result.returncode == 0, result.stderr
    assert_same_run(folder / 'node0', whole)
    written = [name.split('/')[0] for name in snapshot(folder / 'node1')]
    assert set(written) <= {'sevenn_data'}  # its own processed data


def test_sigterm_and_resume(folder: Path, whole: Path) -> None:
    words = ['input.yaml', '-w', 'stopped']
    process = begin(folder, *words, train=[*waiting(2), 'train'])
    wait_in_epoch(process, folder / 'stopped', 2)
    process.send_signal(signal.SIGTERM)  # to torchrun, which passes it on
    stopped = finish(process)
    assert stopped.returncode != 0
    epoch, step = progress_of(folder / 'stopped')
    message = f'stopped by SIGTERM after step {step} of epoch {epoch}'
    assert message in stopped.stderr
    result = finish(begin(folder, *words, '--resume'))
    assert result.returncode == 0, result.stderr
    assert_same_weights(folder / 'stopped', whole)
    # errors so far were summed over the processes once more, in float32
    assert_same_curve(folder / 'stopped', whole, 1e-6)


def test_bad_data_ends_all_processes(folder: Path) -> None:
    (folder / 'bad.extxyz').write_text('8\nLattice="1 0 0"\nGa nonsense\n')
    yaml = small_yaml()
    yaml['data']['load_trainset_path'][0]['file'] = 'bad.extxyz'
    write_yaml(folder / 'bad.yaml', yaml)
    result = finish(begin(folder, 'bad.yaml', '-w', 'bad'))
    assert result.returncode != 0
    assert 'sevennet-mf: bad.extxyz cannot be read' in result.stderr


def test_a_process_that_fails_alone_does_not_leave_the_other_waiting(
    folder: Path,
) -> None:
    """The second node does not see the data."""
    yaml = small_yaml()
    (folder / 'local.extxyz').write_bytes((INGAN / 'pbe_valid.extxyz').read_bytes())
    yaml['data']['load_validset_path'][0]['file'] = 'local.extxyz'
    path = write_yaml(folder / 'local.yaml', yaml)
    elsewhere = folder / 'elsewhere'
    elsewhere.mkdir()
    results = on_two_nodes(folder, [path] * 2, [folder, elsewhere])
    assert [result.returncode != 0 for result in results] == [True, True]
    assert 'no such file: local.extxyz' in results[1].stderr


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['-d', '--distributed_backend', 'gloo'], 'RANK is not set. Start with: t'),
        (['-d', '--distributed_backend', 'mpi'], 'Start with: mpirun'),
        pytest.param(
            ['-d'],
            'nccl needs CUDA GPUs and none is found. Use --distributed_backend gloo',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU'),
        ),
    ],
    ids=['gloo', 'mpi', 'nccl'],
)
def test_what_several_processes_need(
    options: list[str],
    words: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sevennet_mf.cli import main

    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    path = str(folder / 'input.yaml')
    assert main(['train', path, '-w', str(tmp_path / 'out'), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1

