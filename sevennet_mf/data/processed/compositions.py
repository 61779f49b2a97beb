"""The compositions of many structures, a few bytes each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sevennet_mf.arrays import N_SPECIES, Ints


class Compositions:
    """How many atoms of each element n structures have; only what is not zero."""

    def __init__(
        self,
        n_elements: np.ndarray[Any, Any],
        elements: np.ndarray[Any, Any],
        counts: np.ndarray[Any, Any],
    ) -> None:
        """Take what is not zero.

        Args:
            n_elements: (n,), how many different elements each structure has.
            elements, counts: (sum of n_elements,), of one structure after another.
        """
        self._first = np.zeros(len(n_elements) + 1, np.int64)
        np.cumsum(n_elements, out=self._first[1:])
        self._elements = elements.astype(np.uint8, copy=False)
        largest = int(counts.max(initial=0))
        self._counts = counts.astype(np.min_scalar_type(largest), copy=False)

    @classmethod
    def of(cls, parts: Iterable[Ints]) -> Compositions:
        """Return those of parts, (k, 119) atoms of each atomic number."""
        n_elements, elements, counts = [], [], []
        for part in parts:
            row, z = np.nonzero(part)
            n_elements.append(np.bincount(row, minlength=len(part)))
            elements.append(z.astype(np.uint8))
            counts.append(part[row, z])
        none = np.zeros(0, np.int64)
        return cls(
            np.concatenate([none, *n_elements]),
            np.concatenate([none, *elements]),
            np.concatenate([none, *counts]),
        )

    def __len__(self) -> int:
        return len(self._first) - 1

    def at(self, rows: Ints) -> Ints:
        """Return (k, 119) int64, atoms of each atomic number in k of them."""
        start = self._first[rows]
        count = self._first[rows + 1] - start
        owner = np.repeat(np.arange(len(rows)), count)
        before = np.cumsum(count) - count
        where = start[owner] + np.arange(len(owner)) - before[owner]
        found = np.zeros((len(rows), N_SPECIES), np.int64)
        found[owner, self._elements[where]] = self._counts[where]
        return found
