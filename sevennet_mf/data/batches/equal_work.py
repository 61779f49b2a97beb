"""Batches of about the same number of edges, however large the structures are.

The structures are drawn in the order in which FidelityBatchSampler draws them, one
after another without end, and cut into batches: each takes as many as stay within
the limit. Time and memory of a step follow the edges, so that a batch of 2-atom
cells does not leave a device idle, and one of 200-atom cells does not exceed its
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from sevennet_mf.arrays import Ints
from sevennet_mf.data.batches.sampler import (
    PROPORTIONAL,
    FidelityBatchSampler,
    Sampling,
)

BLOCK: Final[int] = 8192  # structures that are drawn at once to be cut


class EqualWorkSampler(FidelityBatchSampler):
    """Batches of structure numbers for one rank, limited by the edges in them.

    In a step each rank takes the next batch. An epoch is as many steps as one pass
    over all structures takes at first, or `steps_per_epoch`; the next one goes on
    where it ended. A structure with more edges than the limit is a batch of its own.

    Args:
        n_edges: (n,) of each structure.
        limit: edges in a batch at most.
        fidelity_index, n_fidelities, sampling, seed, shuffle, rank, world_size: as
            for FidelityBatchSampler.

    Attributes:
        structures_per_batch: on average.
        steps_per_epoch: may be set before anything is drawn.
    """

    def __init__(
        self,
        n_edges: Ints,
        limit: int,
        fidelity_index: Ints,
        n_fidelities: int,
        sampling: Sampling = PROPORTIONAL,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            fidelity_index,
            n_fidelities,
            1,
            sampling,
            seed,
            shuffle,
            rank,
            world_size,
        )
        assert limit > 0, limit
        self.limit = limit
        self.work: Ints = np.maximum(n_edges, 1)  # a lone atom has no edge
        self.in_passes = False
        cuts = [*self._cuts_from(0, until=len(self.work))]
        self.structures_per_batch = cuts[-1] / len(cuts)
        self.steps_per_epoch = -(-len(cuts) // world_size)
        self._starts = [0]  # the first draw of each epoch, as far as is known
        self._cuts: tuple[int, list[int]] | None = None  # of one epoch

    def _draw(self, epoch: int, step: int) -> Ints:
        cuts = self._cuts_of(epoch)
        first = step * self.world_size
        return self._stream(cuts[first], cuts[first + self.world_size])

    def _mine(self, epoch: int, step: int) -> list[int]:
        cuts = self._cuts_of(epoch)
        at = step * self.world_size + self.rank
        return self._stream(cuts[at], cuts[at + 1]).tolist()

    def _cuts_of(self, epoch: int) -> list[int]:
        """The draw at which each batch of an epoch begins, and the end."""
        if self._cuts is None or self._cuts[0] != epoch:
            count = self.steps_per_epoch * self.world_size
            known = min(epoch, len(self._starts) - 1)
            for number in range(known, epoch + 1):
                first = self._starts[number]
                cuts = [first, *self._cuts_from(first, count)]
                if number + 1 == len(self._starts):
                    self._starts.append(cuts[-1])
            self._cuts = epoch, cuts
        return self._cuts[1]

    def _cuts_from(
        self, first: int, count: int | None = None, until: int | None = None
    ) -> Iterator[int]:
        """Yield the draws at which batches end, from a draw that begins one.

        count: how many; or until: up to the first that is no less.
        """
        block, done = BLOCK, 0
        while True:
            total = np.cumsum(self.work[self._stream(first, first + block)])
            at = before = 0
            while True:
                end = int(np.searchsorted(total, before + self.limit, 'right'))
                end = max(end, at + 1)
                if end >= block:  # the next block begins with this batch
                    break
                yield first + end
                done += 1
                if done == count or (until is not None and first + end >= until):
                    return
                at, before = end, int(total[end - 1])
            block = block if at else 2 * block
            first += at


def batches_in_order(
    n_edges: Ints, limit: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Return batches that contain each structure once, on one of the ranks.

    Every rank has the same number of them; see loader.Padded for the padding.

    Args:
        n_edges, limit: as for EqualWorkSampler.
    """
    total = np.cumsum(np.maximum(n_edges, 1))
    batches, at = [], 0
    while at < len(total):
        before = int(total[at - 1]) if at else 0
        end = int(np.searchsorted(total, before + limit, 'right'))
        end = max(end, at + 1)
        batches.append(list(range(at, end)))
        at = end
    batches += [[-1]] * (-len(batches) % world_size)
    return batches[rank::world_size]
