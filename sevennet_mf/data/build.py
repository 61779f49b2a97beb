"""Writing a folder of processed graphs, completely or not at all. See cache.py."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData
from torch_geometric.data.collate import collate
from tqdm import tqdm

from sevennet_mf import lock
from sevennet_mf.data import graphs
from sevennet_mf.data.cache import META, Cached, CacheRecipe, is_whole, recipe_of
from sevennet_mf.data.files import count_frames, size_of
from sevennet_mf.data.geometry import Geometry
from sevennet_mf.data.identity import Traits
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.read import Structure, read_entry
from sevennet_mf.data.told import Told
from sevennet_mf.errors import UserError
from sevennet_mf.files import unwritable

SHARD: Final[int] = 2000  # structures in one file
SHARD_EDGES: Final[int] = 5_000_000  # or so many edges: 100 MB
BATCH: Final[int] = 256  # structures handed to the worker processes at once
LOCK: Final[str] = 'lock'
GRACE: Final[float] = 60.0  # s within which a new folder gets its lock

Edges = dict[str, np.ndarray[Any, Any]]


def load_or_build(
    entry: Entry,
    key: str | None,
    fidelities: Sequence[str],
    cutoff: float,
    folder: Path,
    cores: int = 1,
) -> Cached:
    """Return the processed structures of an entry, from disk if they are there.

    Args:
        entry, key, fidelities, cutoff: as for read.read_entry.
        folder: where processed data are kept.
        cores: number of processes that search for neighbours.

    Raises:
        UserError: The data cannot be used, or the folder cannot be written.
    """
    recipe = recipe_of(entry, key, cutoff)
    target = folder / recipe.folder_name
    sweep(folder)
    if not is_whole(target):
        build(entry, key, fidelities, cutoff, recipe, target, cores)
    return Cached(target, recipe)


def build(
    entry: Entry,
    key: str | None,
    fidelities: Sequence[str],
    cutoff: float,
    recipe: CacheRecipe,
    target: Path,
    cores: int = 1,
) -> None:
    """Process an entry into the folder `target`; on failure nothing is left behind.

    Args:
        entry, key, fidelities, cutoff, cores: as for load_or_build.
        recipe: as recipe_of returns it.
        target: the folder to write.

    Raises:
        UserError: The data cannot be used, a file changes while it is read, or the
            folder cannot be written.
    """
    # the order of the folder is that of the recipe, whatever the files are called
    ordered = {**entry, 'file': [i.path for i in recipe.inputs]}
    told = Told()
    structures = read_entry(ordered, key, fidelities, cutoff, told=told)
    with _temporary(target) as folder:
        shards = _Shards(folder, told)
        with (
            _Progress(recipe, entry) as progress,
            contextlib.closing(_with_edges(structures, cutoff, cores)) as pairs,
        ):
            for structure, edges in pairs:
                shards.add(structure, edges)
                progress.passed(structure)
        shards.close()
        if recipe_of(entry, key, cutoff) != recipe:
            paths = ', '.join(i.path for i in recipe.inputs)
            raise UserError(f'{paths} changed while it was read. Start again.')
        _publish(folder, target)


def sweep(folder: Path) -> None:
    """Remove what interrupted runs left in `folder`, but nothing of running ones."""
    for left in folder.glob('.fidelity_*.tmp'):
        with contextlib.suppress(OSError, UserError):
            # a folder without its lock may be one that another process just made
            if time.time() - left.stat().st_mtime < GRACE:
                continue
            # who writes there holds it until he ends, however he ends
            if (held := lock.take(left / LOCK, 0.0, needed=True)) is not None:
                with held:
                    shutil.rmtree(left)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A folder beside `target`, locked, that is gone afterwards."""
    folder = target.parent / f'.{target.name}.{uuid.uuid4().hex[:8]}.tmp'
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        (folder / LOCK).touch()
    except OSError as error:
        raise _not_writable(target.parent, error) from error
    with lock.take(folder / LOCK) or contextlib.nullcontext():
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, target: Path) -> None:
    """Put a whole folder in its place, unless another process was faster."""
    try:
        if target.exists() and not is_whole(target):
            shutil.rmtree(target)
        os.replace(folder, target)
    except OSError as error:
        if not is_whole(target):
            raise _not_writable(target, error) from error


def _not_writable(path: Path, error: Exception) -> UserError:
    remedy = 'Free some space, or run in a folder that can be written.'
    return unwritable(path, error, remedy)


class _Progress:
    """A bar with the time left."""

    def __init__(self, recipe: CacheRecipe, entry: Entry) -> None:
        index = entry.get('index', ':')
        counts = [count_frames(i.path, i.reader, index) for i in recipe.inputs]
        known = [count for count in counts if count is not None]
        self.total = sum(known) if len(known) == len(counts) else None
        sizes = [size_of(i.path) for i in recipe.inputs]
        self.bytes_before = np.cumsum([0, *sizes])
        self.done = self.file = 0

    def __enter__(self) -> _Progress:
        # disable=None: silent where there is no terminal
        self.bar: tqdm[NoReturn] = tqdm(
            desc='graphs', unit=' structures', total=self.total, disable=None
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def passed(self, structure: Structure) -> None:
        if self.total is None and structure.file != self.file:
            # the rest may be like what was read
            self.file = structure.file
            part = self.bytes_before[self.file] / self.bytes_before[-1]
            self.bar.total = round(self.done / part)
        self.done += 1
        self.bar.update()


def _with_edges(
    structures: Iterator[Structure], cutoff: float, cores: int
) -> Generator[tuple[Structure, Edges], None, None]:
    find = partial(graphs.edges_of, cutoff=cutoff)
    if cores <= 1:
        for structure in structures:
            yield structure, find(structure)
        return
    import sevenn.train.dataload  # noqa: F401 - once, not in each process

    with _pool(cores) as pool:
        # in batches: a pool would read all its input at once
        while batch := list(islice(structures, BATCH)):
            yield from zip(batch, pool.map(find, batch), strict=True)


def _pool(cores: int) -> Pool:
    """Return processes that look for neighbours.

    With one thread of torch, as its own loaders have it: those that this process
    may have started are not in a fork, which would wait for them for ever.
    """
    return multiprocessing.Pool(cores, torch.set_num_threads, (1,))


def _identity(structure: Structure) -> dict[str, Any]:
    """What tells the structure of a graph; its lattice has zeros for less than 3."""
    geometry = Geometry.of(structure)
    traits = Traits.of(structure, geometry)
    lattice = np.zeros((3, 3))
    lattice[: len(geometry.lattice)] = geometry.lattice
    return {**vars(traits), 'lattice': lattice}


class _Shards:
    """Packs structures into files as they come; the small arrays at the end."""

    def __init__(self, folder: Path, told: Told) -> None:
        self.folder, self.told = folder, told
        self.graphs: list[AtomGraphData] = []
        self.compositions: list[np.ndarray[Any, Any]] = []
        self.edges = 0
        self.first_rows = [0]
        self.names: list[str] = []
        self.columns: dict[str, list[Any]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, structure: Structure, edges: Edges) -> None:
        self.graphs.append(graphs.pack(structure, edges))
        self.compositions.append(graphs.composition(structure.numbers))
        self.edges += len(edges[KEY.EDGE_VEC])
        if structure.fidelity not in self.names:
            self.names.append(structure.fidelity)
        forces = structure.forces
        row = {
            'n_atoms': len(structure.numbers),
            'n_edges': len(edges[KEY.EDGE_VEC]),
            'n_centres': len(np.unique(edges[KEY.EDGE_IDX][0])),
            'file': structure.file,
            'frame': structure.frame,
            'fidelity': self.names.index(structure.fidelity),
            **_identity(structure),
            'energy': structure.energy,
            'force_square': 0.0 if forces is None else float(np.sum(forces**2)),
            'has_force': forces is not None,
            'has_stress': structure.stress is not None,
        }
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)
        if len(self.graphs) >= SHARD or self.edges >= SHARD_EDGES:
            self._flush()

    def _flush(self) -> None:
        if not self.graphs:
            return
        data, slices, _ = collate(
            AtomGraphData, self.graphs, increment=False, add_batch=False
        )
        packed = {
            'data': data.to_dict(),
            'slices': dict(slices),
            'composition': torch.from_numpy(np.stack(self.compositions)),
        }
        self._write(f'{len(self.first_rows) - 1:05d}.pt', packed)
        self.first_rows.append(self.first_rows[-1] + len(self.graphs))
        self.graphs, self.compositions, self.edges = [], [], 0

    def close(self) -> None:
        """Write what is left and meta.pt, without which a folder is not whole."""
        self._flush()
        arrays = {k: torch.from_numpy(np.array(v)) for k, v in self.columns.items()}
        meta = {
            'fidelity_names': self.names,
            'first_rows': torch.tensor(self.first_rows),
            'arrays': arrays,
            'sizes': dict(self.sizes),
            'told': [dataclasses.astuple(line) for line in self.told.lines()],
            'isolated': self.told.isolated,
        }
        self._write(META, meta)

    def _write(self, name: str, packed: dict[str, Any]) -> None:
        path = self.folder / name
        try:
            with open(path, 'wb') as stream:
                torch.save(packed, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, RuntimeError) as error:  # torch has its own for a full disk
            raise _not_writable(self.folder.parent, error) from error
        self.sizes[name] = path.stat().st_size
