"""What is measured of a data set of any size, each in a process of its own.

    python benchmarks/data_size_tasks.py TASK FILE FOLDER PROCESSES

prints the seconds, the structures, and the memory that it took at most beyond that
of the interpreter with its imports, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sevenn._keys as KEY
import torch
from measure import resident
from sevenn.train.dataload import ase_reader
from sevenn.train.graph_dataset import SevenNetGraphDataset
from torch_geometric.loader import DataLoader

from sevennet_mf import keys
from sevennet_mf.data.batches.loader import make_loader
from sevennet_mf.data.batches.sampler import FidelityBatchSampler
from sevennet_mf.data.dataset import (
    FidelityDataset,
    build_datasets,
    labels_in,
    pair_index,
)
from sevennet_mf.data.references import fit_references

CUTOFF: Final = 5.0  # Å
BATCH: Final = 32  # structures
FIDELITY: Final = 'pbe'
HOST_FOLDER: Final = 'host'

Json = dict[str, Any]


def _dataset(file: Path, folder: Path, cores: int, cache: bool) -> FidelityDataset:
    entry = {'file': [str(file)], 'fidelity': FIDELITY}
    config = {
        KEY.CUTOFF: CUTOFF,
        KEY.PREPROCESS_NUM_CORES: cores,
        keys.FIDELITY_DATA: {'order': [FIDELITY], 'key': None, 'cache': cache},
        'load_trainset_path': [entry],
    }
    return build_datasets(config, folder / ('kept' if cache else 'bare'))['trainset']


def process(file: Path, folder: Path, processes: int, cache: bool = True) -> int:
    """Read a file and process it anew."""
    shutil.rmtree(folder / ('kept' if cache else 'bare'), ignore_errors=True)
    return len(_dataset(file, folder, processes, cache))


def opened(file: Path, folder: Path, _: int) -> int:
    """Open what is processed, from the hash of the file on."""
    return len(_dataset(file, folder, 1, True))


def prepared(file: Path, folder: Path, _: int) -> int:
    """Open it, find repeated structures, and fit reference energies."""
    dataset = _dataset(file, folder, 1, True)
    pair_index(dataset, FIDELITY, FIDELITY)
    elements = ['Ga', 'In', 'N']
    found = fit_references({FIDELITY: labels_in(dataset)}, FIDELITY, elements)
    dataset.set_reference(found.energies)
    return len(dataset)


def epoch(file: Path, folder: Path, processes: int, cache: bool = True) -> int:
    """Load every structure once, in batches; with two processes, one loads."""
    dataset = _dataset(file, folder, 1, cache)
    sampler = FidelityBatchSampler(dataset.fidelity_index, 1, BATCH)
    loader = make_loader(dataset, sampler, processes - 1)
    return sum(len(batch[KEY.NUM_ATOMS]) for batch in loader)


def host_read(file: Path, _: Path, __: int) -> int:
    """SevenNet's reader alone."""
    return len(ase_reader(str(file)))


def host_build(file: Path, folder: Path, processes: int) -> int:
    """What `sevenn graph_build` does: read, build graphs, save them."""
    shutil.rmtree(folder / HOST_FOLDER, ignore_errors=True)
    return len(_host(folder, files=[str(file)], process_num_cores=processes))


def host_opened(_: Path, folder: Path, __: int) -> int:
    """Open what SevenNet processed."""
    return len(_host(folder))


def host_epoch(_: Path, folder: Path, processes: int) -> int:
    """Load every structure once, as SevenNet does."""
    dataset = _host(folder)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=processes - 1)
    return sum(len(batch[KEY.NUM_ATOMS]) for batch in loader)


def _host(folder: Path, **options: Any) -> SevenNetGraphDataset:
    root = folder / HOST_FOLDER
    root.mkdir(exist_ok=True)
    options |= {'root': str(root), 'processed_name': 'set.pt', 'log': False}
    with contextlib.redirect_stderr(io.StringIO()):  # its bars
        return SevenNetGraphDataset(cutoff=CUTOFF, **options)


Task = Callable[[Path, Path, int], int]
# by name; what is processed comes before what needs it
TASKS: Final[dict[str, Task]] = {
    'process': process,
    'process, cache: false': lambda *of: process(*of, cache=False),
    'sevenn read': host_read,
    'sevenn graph_build': host_build,
    'open': opened,
    'open, pairs, references': prepared,
    'sevenn open': host_opened,
    'epoch': epoch,
    'epoch, cache: false': lambda *of: epoch(*of, cache=False),
    'sevenn epoch': host_epoch,
}


def measured(name: str, file: Path, folder: Path, processes: int) -> Json:
    """Return what a task took in this process."""
    torch.set_num_threads(1)
    before, start = resident('VmRSS'), time.perf_counter()
    n = TASKS[name](file, folder, processes)
    seconds = time.perf_counter() - start
    return {
        'structures': n,
        'seconds': seconds,
        'peak_bytes': resident('VmHWM') - before,
    }


if __name__ == '__main__':
    task, file, folder, processes = sys.argv[1:]
    print(json.dumps(measured(task, Path(file), Path(folder), int(processes))))
