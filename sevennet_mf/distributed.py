"""Process groups: several processes on one or several nodes.

The host supports nccl and mpi, calls cuda.set_device whatever the backend is, and
takes the local rank for the global one. Here torchrun's variables are read as they
are meant: the global rank writes files, the local one selects the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from sevennet_mf.errors import TrainingStopped, UserError

# until all processes have joined, and for a step that they do together
JOIN = timedelta(minutes=30)
# one process may search the neighbours of millions of atoms while others wait
PATIENCE = timedelta(hours=24)
T = TypeVar('T')
BACKENDS = ('nccl', 'gloo', 'mpi')
# what a backend reports when the process at the other end is gone
GONE = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe')

_waiting_room: Any = None  # the group whose barriers last for PATIENCE


@dataclass(frozen=True)
class Process:
    """This process among those that train together."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    backend: str = 'nccl'

    @property
    def distributed(self) -> bool:
        return self.world_size > 1 or dist.is_initialized()

    def device(self, wanted: str) -> torch.device:
        """Return the device to train on; `wanted` is `train.device` of the YAML."""
        if self.distributed and self.backend == 'nccl':
            return torch.device('cuda', self.local_rank)
        if self.distributed and self.backend == 'gloo':
            return torch.device('cpu')
        return usable_device(wanted)

    def barrier(self) -> None:
        """Wait for the others, who may have a day's work to do."""
        if self.distributed:
            dist.barrier(group=_waiting_room)

    def anywhere(self, here: bool) -> bool:
        """Whether `here` is true on any of the processes."""
        if not self.distributed:
            return here
        said = [here] * dist.get_world_size()
        dist.all_gather_object(said, here, group=_waiting_room)
        return any(said)

    def share(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, on all of them.

        An error that it raises while making is raised on all.
        """
        if not self.distributed:
            return make()
        made: list[Any] = [None]
        if self.rank == 0:
            try:
                made = [make()]
            except Exception as error:  # the others would wait for ever
                made = [error]
        dist.broadcast_object_list(made, src=0, group=_waiting_room)
        if isinstance(made[0], Exception):
            raise made[0]
        return cast(T, made[0])


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device of that name; for 'auto', a GPU if there is one.

    Raises:
        UserError: The device is not available here.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise UserError(
            f'device {str(name)!r} cannot be used: {reason}. Use cpu.'
        ) from None
    return device


@contextmanager
def process_group(distributed: bool, backend: str = 'nccl') -> Iterator[Process]:
    """Join torchrun's processes for as long as the context lasts.

    Raises:
        UserError: torchrun did not start this process, or the backend cannot work
            here.
        TrainingStopped: Another process ended early.
    """
    global _waiting_room
    if not distributed:
        yield Process()
        return
    if backend not in BACKENDS:
        raise UserError(
            f'--distributed_backend must be one of {[*BACKENDS]}, got {backend!r}.'
        )
    if backend == 'nccl' and not torch.cuda.is_available():
        raise UserError(
            '--distributed_backend nccl needs CUDA GPUs and none is found. Use '
            '--distributed_backend gloo to train on CPUs.'
        )
    process = from_environment(backend)
    if backend == 'mpi' and not dist.is_mpi_available():
        raise UserError(
            '--distributed_backend mpi needs a torch that was built with MPI. Use '
            'gloo to train on CPUs.'
        )
    if backend == 'nccl':
        n_gpus = torch.cuda.device_count()
        if process.local_rank >= n_gpus:
            raise UserError(
                f'--distributed_backend nccl needs a GPU per process, and this '
                f'machine has {n_gpus}. Start with --nproc_per_node {n_gpus}.'
            )
        torch.cuda.set_device(process.local_rank)
    dist.init_process_group(
        backend, rank=process.rank, world_size=process.world_size, timeout=JOIN
    )
    try:
        # nccl would wait no longer than JOIN at the first barrier of the group
        _waiting_room = dist.new_group(backend='gloo', timeout=PATIENCE)
        yield process
    except RuntimeError as error:
        if any(words in str(error) for words in GONE):
            raise TrainingStopped(
                f'process {process.rank} stops because another one failed; see its '
                'message. Checkpoints on disk are complete.'
            ) from error
        raise
    finally:
        _waiting_room = None
        dist.destroy_process_group()


def from_environment(backend: str) -> Process:
    """Return this process as torchrun or mpirun describes it.

    Raises:
        UserError: Neither of them started it.
    """
    names: tuple[str, ...] = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE')
    if backend == 'mpi':
        names = tuple(f'OMPI_COMM_WORLD_{n}' for n in ('RANK', 'LOCAL_RANK', 'SIZE'))
    try:
        rank, local_rank, world_size = (int(os.environ[name]) for name in names)
    except KeyError as error:
        starter = 'mpirun' if backend == 'mpi' else 'torchrun'
        raise UserError(
            f'-d trains with several processes, but {error.args[0]} is not set. '
            f'Start with: {starter} ... sevennet-mf train input.yaml -d'
        ) from None
    except ValueError as error:
        raise UserError(
            f'the environment variables {names} must be numbers: {error}.'
        ) from None
    return Process(rank, local_rank, world_size, backend)
