"""Batches of a data set: made in this process, or by workers beside it."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch_geometric import loader as geometric
from torch_geometric.loader.dataloader import Collater

from sevennet_mf import keys

Batches = Sampler[list[int]] | Sequence[Sequence[int]]


class Padded(Dataset[Any]):
    """A data set where -1 - i is structure i with sample weight 0."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, number: int) -> Any:
        if number >= 0:
            return self.dataset[number]
        graph = self.dataset[-1 - number]
        graph[keys.SAMPLE_WEIGHT] = torch.zeros_like(graph[keys.SAMPLE_WEIGHT])
        return graph


class _Pickler(pickle.Pickler):
    """Writes tensors with their numbers, not as memory shared between processes."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, torch.Tensor):
            return torch.from_numpy, (thing.numpy(),)
        return NotImplemented


class Packing:
    """Makes a batch of structures and packs it; what workers do."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.collate = Collater(dataset)

    def __call__(self, graphs: list[Any]) -> bytes:
        stream = io.BytesIO()
        _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(self.collate(graphs))
        return stream.getvalue()


class WorkerLoader(DataLoader[Any]):
    """Batches that workers make, each sent as one string of bytes.

    torch shares each tensor of a batch through a file of its own. A batch of small
    structures has some fifteen tensors of a few kilobytes, and opening their files
    takes longer than making them here would.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: Batches,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=num_workers,
            persistent_workers=True,
            collate_fn=Packing(dataset),
            generator=torch.Generator().manual_seed(0),
        )
        self.is_pinned = pin_memory

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for packed in super().__iter__():
            batch = pickle.loads(packed)
            yield batch.pin_memory() if self.is_pinned else batch


def make_loader(
    dataset: Dataset[Any],
    batches: Batches,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return a loader of batches of structure numbers.

    Args:
        batches: the numbers of each; -1 - i is structure i with weight 0.
        num_workers: processes that load; 0: this one.
        pin_memory: whether to put batches where a GPU fetches them faster.
    """
    padded = Padded(dataset)
    if num_workers:
        return WorkerLoader(padded, batches, num_workers, pin_memory)
    # without a generator of its own a loader draws from the global one
    return geometric.DataLoader(
        padded,
        batch_sampler=batches,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),
    )


def eval_batches(
    n: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Return batches that contain each of `n` structures once, on one of the ranks.

    Every rank has the same number of batches; see Padded for the padding.
    """
    mine = list(range(rank, n, world_size))
    if n and len(mine) < math.ceil(n / world_size):
        mine.append(-1)  # structure 0, of no weight
    return [mine[k : k + batch_size] for k in range(0, len(mine), batch_size)]
