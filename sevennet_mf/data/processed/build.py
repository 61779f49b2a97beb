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
from typing import Final, NoReturn

import numpy as np
import torch
from tqdm import tqdm

from sevennet_mf import lock
from sevennet_mf.data.processed import graphs
from sevennet_mf.data.processed.cache import Cached, CacheRecipe, is_whole, recipe_of
from sevennet_mf.data.processed.store import Item, Writer, item_of
from sevennet_mf.data.reading.files import count_frames, size_of
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.errors import UserError
from sevennet_mf.files import unwritable

BATCH: Final[int] = 256  # structures handed to the worker processes at once
LOCK: Final[str] = 'lock'
GRACE: Final[float] = 60.0  # s within which a new folder gets its lock


@dataclasses.dataclass(frozen=True)
class Processing:
    """How entries become processed data.

    Attributes:
        key: data.fidelity.key.
        fidelities: known names.
        cutoff: in Å.
        folder: where processed data are kept.
        cores: number of processes that search for neighbours.
        keeps_graphs: whether graphs are kept, or made when they are needed.
    """

    key: str | None
    fidelities: Sequence[str]
    cutoff: float
    folder: Path
    cores: int = 1
    keeps_graphs: bool = True

    def recipe_of(self, entry: Entry) -> CacheRecipe:
        """Return what determines the processed data of an entry."""
        return recipe_of(entry, self.key, self.cutoff)

    def load_or_build(self, entry: Entry, recipe: CacheRecipe) -> Cached:
        """Return the processed structures of an entry, from disk if they are there.

        Raises:
            UserError: The data cannot be used, or the folder cannot be written.
        """
        sweep(self.folder)
        found = recipe.found_in(self.folder, self.keeps_graphs)
        if found is None:
            name = recipe.folder_name if self.keeps_graphs else recipe.bare_name
            found = self.folder / name
            build(entry, self, recipe, found)
        return Cached(found, recipe)


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
        folder, cores: as in Processing.

    Raises:
        UserError: The data cannot be used, or the folder cannot be written.
    """
    how = Processing(key, fidelities, cutoff, folder, cores)
    return how.load_or_build(entry, how.recipe_of(entry))


def build(
    entry: Entry, how: Processing, recipe: CacheRecipe, target: Path
) -> None:
    """Process an entry into the folder `target`; on failure nothing is left behind.

    Args:
        recipe: as recipe_of returns it.
        target: the folder to write.

    Raises:
        UserError: The data cannot be used, a file changes while it is read, or the
            folder cannot be written.
    """
    # the order of the folder is that of the recipe, whatever the files are called
    ordered = {**entry, 'file': [i.path for i in recipe.inputs]}
    told = Told()
    structures = read_entry(
        ordered, how.key, how.fidelities, how.cutoff, told=told
    )
    with _temporary(target) as folder, _writing(folder) as writer:
        with (
            _Progress(recipe, entry) as progress,
            contextlib.closing(_items(structures, how)) as items,
        ):
            for item in items:
                with _disk(target):
                    writer.add(item)
                progress.passed(item)
        with _disk(target):
            writer.finish({
                'cutoff': how.cutoff,
                'told': [dataclasses.astuple(line) for line in told.lines()],
                'isolated': told.isolated,
            })
        if how.recipe_of(entry) != recipe:
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

    def passed(self, item: Item) -> None:
        if self.total is None and item.file != self.file:
            # the rest may be like what was read
            self.file = item.file
            part = self.bytes_before[self.file] / self.bytes_before[-1]
            self.bar.total = round(self.done / part)
        self.done += 1
        self.bar.update()


def _items(
    structures: Iterator[Structure], how: Processing
) -> Generator[Item, None, None]:
    """What is kept of each structure, in their order."""
    make = partial(_item, cutoff=how.cutoff, keeps_graphs=how.keeps_graphs)
    if how.cores <= 1:
        yield from map(make, structures)
        return
    import sevenn.train.dataload  # noqa: F401 - once, not in each process

    with _pool(how.cores) as pool:
        # in batches: a pool would read all its input at once
        batch = list(islice(structures, BATCH))
        while batch:
            made = pool.map_async(make, batch)
            try:  # this process reads while the others work
                batch = list(islice(structures, BATCH))
            except UserError:
                yield from made.get()  # an error in them comes first
                raise
            yield from made.get()


def _item(structure: Structure, cutoff: float, keeps_graphs: bool) -> Item:
    return item_of(structure, graphs.edges_of(structure, cutoff), keeps_graphs)


def _pool(cores: int) -> Pool:
    """Return processes that look for neighbours.

    With one thread of torch, as its own loaders have it: those that this process
    may have started are not in a fork, which would wait for them for ever.
    """
    return multiprocessing.Pool(cores, torch.set_num_threads, (1,))


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[Writer]:
    """The writer of a folder, whose files are closed afterwards."""
    with _disk(folder):
        writer = Writer(folder)
    try:
        yield writer
    finally:
        writer.close()


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    """Raise UserError for what the file system refuses."""
    try:
        yield
    except OSError as error:
        raise _not_writable(target.parent, error) from error
