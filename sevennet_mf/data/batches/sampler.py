"""Which structures each batch draws on each rank, from (seed, epoch, step) alone.

Nothing depends on earlier draws, so a run can resume at any step, and the global
random state is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch.utils.data import Sampler

from sevennet_mf.arrays import Floats, Ints

Sampling = str | Mapping[int, float]
PROPORTIONAL, BALANCED = 'proportional', 'balanced'
# Draws after which the shares come out exactly and their pattern repeats; shares
# that need more are rounded to this
PERIOD: Final[int] = 100_000


class FidelityBatchSampler(Sampler[list[int]]):
    """Batches of structure numbers for one rank.

    An epoch is ceil(n / (batch_size * world_size)) steps, or `steps_per_epoch`.

    'proportional': each structure is drawn once per epoch; with `steps_per_epoch`,
    once before any repeats, also across epochs. Otherwise each batch draws the
    fidelities by their shares: after t global steps the number of draws of each
    differs from its share by less than one structure, and all structures of a
    fidelity appear before any repeats, also across epochs. A structure that is there
    only to give every rank the same number is -1 - number: see loader.Padded.

    Args:
        fidelity_index: (n,) int64, fidelity of each structure.
        batch_size: structures per rank and step.
        sampling: 'proportional', 'balanced' or {fidelity: share}.

    Attributes:
        draw_probability: (n_fidelities,) float64, p_f.
        structures_per_batch: of one rank.

    Raises:
        ValueError: A fidelity has a share but no structure, or structures but no
            share.
    """

    def __init__(
        self,
        fidelity_index: Ints,
        n_fidelities: int,
        batch_size: int,
        sampling: Sampling = PROPORTIONAL,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        steps_per_epoch: int | None = None,
    ) -> None:
        assert 0 <= rank < world_size, (rank, world_size)
        assert steps_per_epoch is None or steps_per_epoch > 0, steps_per_epoch
        self.fidelity_index = np.asarray(fidelity_index, np.int64)
        self.members = [
            np.flatnonzero(self.fidelity_index == f) for f in range(n_fidelities)
        ]
        if not len(self.fidelity_index) or batch_size < 1:
            raise ValueError(f'no structures, or batch size {batch_size} below 1')
        self.structures_per_batch = float(batch_size)
        self.batch = batch_size * world_size
        self._all: Ints = np.arange(len(self.fidelity_index))
        self.seed, self.shuffle = seed % 2**64, shuffle
        self.rank, self.world_size = rank, world_size
        whole = math.ceil(len(self.fidelity_index) / self.batch)
        self.steps_per_epoch = steps_per_epoch or whole
        self.in_passes = steps_per_epoch is None  # an epoch is a pass over the data
        self.epoch = self.start = 0
        counts = [len(m) for m in self.members]
        if sampling == PROPORTIONAL:
            self.draw_probability: Floats = np.array(counts) / sum(counts)
            self._drawn: Ints | None = None
        else:
            parts = _whole_shares(sampling, counts)
            self.draw_probability = np.array(parts) / sum(parts)
            self._drawn = _pattern(parts)
        # step after step asks for the same few permutations
        several = 2 * n_fidelities if self._drawn is not None else 2
        self._permutation = lru_cache(several)(self._permute)

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of `epoch` (from 0) next, starting at its first step."""
        self.epoch, self.start = epoch, 0

    def start_at(self, step: int) -> None:
        """Skip the first `step` steps of the current epoch."""
        self.start = step

    def __len__(self) -> int:
        """Steps of a whole epoch, wherever the next pass starts."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        for step in range(self.start, self.steps_per_epoch):
            yield self._mine(epoch, step)

    def present(self, step: int) -> torch.Tensor:
        """Return which fidelities a step draws, over all ranks, (n,) bool."""
        drawn = self.fidelity_index[self._draw(self.epoch, step)]
        counts = np.bincount(drawn, minlength=len(self.members))
        return torch.from_numpy(counts > 0)

    def _mine(self, epoch: int, step: int) -> list[int]:
        """The structures of one step on this rank."""
        return self._deal(self._draw(epoch, step))

    def _draw(self, epoch: int, step: int) -> Ints:
        """The structures of one step over all ranks."""
        if self._drawn is None and self.in_passes:
            order = self._permutation(-1, epoch)
            return order[step * self.batch : (step + 1) * self.batch]
        before = self.batch * (epoch * self.steps_per_epoch + step)
        if self._drawn is None:
            return self._taken(-1, before, before + self.batch)
        first, last = self._count(before), self._count(before + self.batch)
        several = range(len(self.members))
        return np.concatenate([self._taken(f, first[f], last[f]) for f in several])

    def _stream(self, first: int, last: int) -> Ints:
        """The structures of draws first, ..., last - 1, one after another."""
        if self._drawn is None:
            return self._taken(-1, first, last)
        period = len(self._drawn) - 1
        inside = (first % period + np.arange(last - first)) % period
        fidelity = (self._drawn[inside + 1] - self._drawn[inside]).argmax(axis=1)
        before, after = self._count(first), self._count(last)
        drawn = np.empty(last - first, np.int64)
        for f in np.unique(fidelity):
            drawn[fidelity == f] = self._taken(f, before[f], after[f])
        return drawn

    def _taken(self, fidelity: int, first: int, last: int) -> Ints:
        """Draws first, ..., last - 1 of a fidelity; -1: of all structures."""
        parts = [np.zeros(0, np.int64)]
        while first < last:
            n = len(self._members(fidelity))
            turn, at = divmod(first, n)
            order = self._permutation(fidelity, turn)
            parts.append(order[at : at + last - first])
            first += len(parts[-1])
        return np.concatenate(parts)

    def _count(self, draws: int) -> list[int]:
        """How often each fidelity was drawn within the first `draws` draws."""
        assert self._drawn is not None
        rounds, rest = divmod(draws, len(self._drawn) - 1)
        # in Python's integers, which do not overflow
        whole, part = self._drawn[-1].tolist(), self._drawn[rest].tolist()
        return [rounds * w + p for w, p in zip(whole, part, strict=True)]

    def _permute(self, fidelity: int, turn: int) -> Ints:
        """The turn-th order of a fidelity's structures; fidelity -1: of all."""
        members = self._members(fidelity)
        if not self.shuffle:
            return members
        generator = np.random.default_rng([self.seed, fidelity + 1, turn])
        return generator.permutation(members)

    def _members(self, fidelity: int) -> Ints:
        """The structures of a fidelity; -1: all of them."""
        return self._all if fidelity < 0 else self.members[fidelity]

    def _deal(self, drawn: Ints) -> list[int]:
        """This rank's part, with about its share of each fidelity."""
        if self.world_size == 1:
            return drawn.tolist()
        lacking = np.full(-len(drawn) % self.world_size, -1 - drawn[0])
        by_fidelity = np.argsort(self.fidelity_index[drawn], kind='stable')
        dealt = np.concatenate([drawn[by_fidelity], lacking])
        return dealt[self.rank :: self.world_size].tolist()


def _whole_shares(sampling: Sampling, counts: Sequence[int]) -> list[int]:
    """Shares as whole numbers without a common factor."""
    if isinstance(sampling, str):
        if sampling != BALANCED:
            raise ValueError(f'no such sampling: {sampling!r}')
        sampling = {f: 1 for f, count in enumerate(counts) if count}
    for f, count in enumerate(counts):
        if (count > 0) != (sampling.get(f, 0) > 0):
            raise ValueError(
                f'fidelity {f} has {count} structures and share {sampling.get(f)}'
            )
    # exactly the decimal numbers that were typed
    exact = [Fraction(str(sampling.get(f, 0))) for f in range(len(counts))]
    scale = math.lcm(*(share.denominator for share in exact))
    parts = [int(share * scale) for share in exact]
    common = math.gcd(*parts)
    if sum(parts) // common <= PERIOD:
        return [part // common for part in parts]
    total = sum(parts)
    return [max(round(part * PERIOD / total), int(part > 0)) for part in parts]


def _pattern(parts: Sequence[int]) -> Ints:
    """(period+1, n_fidelities) draws of each fidelity within the first 0, 1, ...

    Fidelity f must have its j-th draw within draws floor(j T/w)+1 .. ceil((j+1) T/w)
    of the period T = sum(w); the earliest end first meets all of these windows (they
    are those of the Pfair schedule of one processor, Baruah et al., Algorithmica 15,
    600 (1996)), and then its count is never a whole draw away from its share.
    """
    period = sum(parts)
    done = [0] * len(parts)
    counts = np.zeros((period + 1, len(parts)), np.int64)
    for n in range(period):
        ends = [
            (-(-(done[f] + 1) * period // w), f)
            for f, w in enumerate(parts)
            if w and done[f] * period // w <= n
        ]
        done[min(ends)[1]] += 1
        counts[n + 1] = done
    return counts
