"""Process groups: what torchrun says, and what cannot work."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from sevennet_mf.distributed import Process, process_group
from sevennet_mf.errors import TrainingStopped, UserError

TORCHRUN = {'RANK': '5', 'LOCAL_RANK': '1', 'WORLD_SIZE': '8'}


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Starts no real group; what would have been started."""
    calls: list[tuple] = []

    def start(backend: str, rank: int, world_size: int, **_: object) -> None:
        calls.append((backend, rank, world_size))

    monkeypatch.setattr(dist, 'init_process_group', start)
    monkeypatch.setattr(dist, 'new_group', lambda timeout, backend: None)
    end = ('end',)
    monkeypatch.setattr(dist, 'destroy_process_group', lambda: calls.append(end))
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    return calls


def test_alone() -> None:
    with process_group(False) as process:
        assert process == Process()
        assert not process.distributed
        assert process.device('cpu') == torch.device('cpu')
        process.barrier()  # waits for nobody


def test_torchruns_ranks_are_taken_as_they_are_meant(group: list[tuple]) -> None:
    """Trap 15: the host takes the local rank for the global one."""
    with process_group(True, 'gloo') as process:
        assert (process.rank, process.local_rank, process.world_size) == (5, 1, 8)
        assert process.distributed
        assert process.device('cuda') == torch.device('cpu')
    assert group == [('gloo', 5, 8), ('end',)]


def test_the_group_ends_whatever_happens(group: list[tuple]) -> None:
    with pytest.raises(KeyError), process_group(True, 'gloo'):
        raise KeyError
    assert group[-1] == ('end',)


def test_a_process_that_is_gone_is_said_in_plain_words(group: list[tuple]) -> None:
    with (
        pytest.raises(TrainingStopped, match='process 5 stops because another one'),
        process_group(True, 'gloo'),
    ):
        raise RuntimeError('[pair.cc:547] Connection closed by peer [10.0.0.1]')
    assert group[-1] == ('end',)


def test_mpis_own_variables(
    group: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (('RANK', '3'), ('LOCAL_RANK', '1'), ('SIZE', '4')):
        monkeypatch.setenv(f'OMPI_COMM_WORLD_{name}', value)
    with (
        pytest.raises(UserError, match='torch that was built with MPI'),
        process_group(True, 'mpi'),
    ):
        pass
    monkeypatch.setattr(dist, 'is_mpi_available', lambda: True)
    with process_group(True, 'mpi') as process:
        assert (process.rank, process.local_rank, process.world_size) == (3, 1, 4)
        assert process.device('cpu') == torch.device('cpu')


def gpus(monkeypatch: pytest.MonkeyPatch, n: int) -> list[int]:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: n > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: n)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    return chosen


def test_the_local_rank_picks_the_gpu(
    group: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = gpus(monkeypatch, 2)
    with process_group(True, 'nccl') as process:
        assert process.device('cpu') == torch.device('cuda', 1)
    assert chosen == [1]
    assert group[0] == ('nccl', 5, 8)


def test_gloo_touches_no_gpu(
    group: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 15: the host calls cuda.set_device whatever the backend is."""
    chosen = gpus(monkeypatch, 2)
    with process_group(True, 'gloo'):
        pass
    assert chosen == []


@pytest.mark.parametrize(
    ('backend', 'n_gpus', 'words'),
    [
        ('glo', 2, r"--distributed_backend must be one of .*'glo'"),
        ('nccl', 0, 'nccl needs CUDA GPUs.*--distributed_backend gloo'),
        ('nccl', 1, 'a GPU per process.*--nproc_per_node 1'),
    ],
)
def test_backends_that_cannot_work(
    group: list[tuple],
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    n_gpus: int,
    words: str,
) -> None:
    gpus(monkeypatch, n_gpus)
    with pytest.raises(UserError, match=words), process_group(True, backend):
        pass
    assert group == []


@pytest.mark.parametrize(
    ('backend', 'starter'), [('gloo', 'torchrun'), ('mpi', 'mpirun')]
)
def test_nobody_started_the_processes(
    monkeypatch: pytest.MonkeyPatch, backend: str, starter: str
) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(UserError, match=f'RANK is not set. Start with: {starter}'),
        process_group(True, backend),
    ):
        pass


def test_two_processes_on_this_machine(two_processes: SimpleNamespace) -> None:
    found = [result['process'] for result in two_processes.results]
    assert found == [Process(0, 0, 2, 'gloo'), Process(1, 1, 2, 'gloo')]
