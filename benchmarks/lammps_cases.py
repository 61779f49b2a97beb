"""What makes the same MD steps: pair styles, files and calculators.

`ours`: a folded model in our `e3gnn`; `host`: the host's deployed modality in its
own pair style, compiled the same way. The other pairings of file and pair style show
which of them makes a difference.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sevenn
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from ase.neighborlist import neighbor_list
from lammps_process import MdProcess
from sevenn.scripts.deploy import deploy as host_deploy
from variants import MODALITY, Case

from sevennet_mf.deploy.deployed import read_deployed
from sevennet_mf.deploy.torchscript import deploy
from sevennet_mf.lammps.build import build
from sevennet_mf.lammps.plugin_path import SOURCES
from sevennet_mf.lammps.process import write_data
from sevennet_mf.lammps.tools import find_lammps

HERE = Path(__file__).resolve().parent
HOST_SOURCES = Path(sevenn.__file__).parent / 'pair_e3gnn'
HOST_FILES = ('pair_e3gnn.cpp', 'pair_e3gnn.h')
FIDELITY = {'7net-mf-0': 'R2SCAN', 'small': 'r2scan'}
SMALLEST = 72  # atoms
SYMBOLS = ['Ga', 'N']

OURS, HOST, AGAIN = 'ours', 'host', 'host, again'
OUR_PAIR, HOST_PAIR = "our pair, host's file", "host's pair, our file"
ASE, HOST_ASE = 'ASE, ours', 'ASE, host'
ONE_RANK, TWO_RANKS = 'parallel, 1 rank', 'parallel, 2 ranks'
TWO_THREADS = 'ours, 2 threads'
PROGRAMS = (
    OURS, HOST, AGAIN, OUR_PAIR, HOST_PAIR, ASE, HOST_ASE, ONE_RANK, TWO_RANKS,
    TWO_THREADS,
)  # fmt: skip
# what has twice the cores, and what it is twice of
TWICE = {TWO_RANKS: ONE_RANK, TWO_THREADS: OURS}

SCRIPT = """\
units metal
atom_style atomic
read_data {data}
pair_style {style}
pair_coeff * * {model} {symbols}
velocity all create 600 1 loop geom
timestep 0.001
fix 1 all nve
thermo 10
"""


def cell(n_atoms: int) -> Atoms:
    """Return wurtzite GaN of 72, 144, 288, ... atoms."""
    atoms = bulk('GaN', 'wurtzite', a=3.21, c=5.24) * (3, 3, 2)
    while len(atoms) < n_atoms:
        repeat = [1, 1, 1]
        repeat[int(np.argmin(atoms.cell.lengths()))] = 2
        atoms = atoms * repeat
    return atoms


@dataclass
class Files:
    """What all runs need, in one folder: models, plugins and structures."""

    folder: Path
    checkpoint: str
    fidelity: str
    cutoff: float
    plugins: dict[str, Path]  # folder of each plugin
    segments: int
    device: str = 'cpu'  # or cuda

    def structure(self, n_atoms: int) -> str:
        """Write a cell for LAMMPS and ASE; return the stem of their names."""
        stem = f'cell_{n_atoms}'
        if not (self.folder / f'{stem}.xyz').is_file():
            atoms = write_data(cell(n_atoms), self.folder / f'{stem}.data', SYMBOLS)
            write(self.folder / f'{stem}.xyz', atoms, format='extxyz')
        return stem

    def n_edges(self, n_atoms: int) -> int:
        """Neighbours within the cutoff, counted from each atom."""
        per_atom = len(neighbor_list('i', cell(SMALLEST), self.cutoff)) // SMALLEST
        return per_atom * n_atoms


def of_size(n_atoms: int) -> tuple[str, ...]:
    """Which of PROGRAMS to run: all, if it does not take long."""
    few = (OURS, HOST, ASE, HOST_ASE, ONE_RANK, TWO_RANKS, TWO_THREADS)
    return PROGRAMS if n_atoms <= SMALLEST else few


def prepare(folder: Path, model: str, device: str = 'cpu') -> Files:
    """Deploy the model in every form and compile the plugins."""
    checkpoint, fidelity = model, FIDELITY[model]
    if model == 'small':
        checkpoint = str(folder / 'small.pth')
        # of the host, random weights
        torch.save(Case('small', 2, 'cpu').checkpoint(MODALITY), checkpoint)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        deploy(checkpoint, str(folder / 'ours.pt'), fidelity)
        segments, _ = deploy(
            checkpoint, str(folder / 'parallel'), fidelity, parallel=True
        )
        host_deploy(checkpoint, str(folder / 'host.pt'), modal=fidelity)
    sources = host_sources(folder)
    plugins = {OURS: build().parent, HOST: build(sources=sources).parent}
    cutoff = read_deployed(str(folder / 'ours.pt'))['cutoff']
    n = len(segments)
    return Files(folder, checkpoint, fidelity, cutoff, plugins, n, device)


def host_sources(folder: Path) -> Path:
    """Collect what the host's pair style is compiled from."""
    sources = folder / 'host_sources'
    sources.mkdir()
    for path in (
        *(HOST_SOURCES / name for name in HOST_FILES),
        *(HERE / 'host_pair').iterdir(),
        SOURCES / 'plugin.h',
    ):
        shutil.copy(path, sources)
    return sources


def start(name: str, files: Files, n_atoms: int, **limits: int) -> MdProcess:
    """Start one of PROGRAMS, up to its first step. limits: as MdProcess."""
    stem = files.structure(n_atoms)
    setting = {'OMP_NUM_THREADS': '2' if name == TWO_THREADS else '1'}
    if files.device == 'cpu':
        setting['CUDA_VISIBLE_DEVICES'] = ''
    if name in (ASE, HOST_ASE):
        kind = 'ours' if name == ASE else 'host'
        command = [sys.executable, str(HERE / 'lammps_ase.py'), kind]
        command += [files.checkpoint, files.fidelity, f'{stem}.xyz', files.device]
        env = {**os.environ, **setting}
        return MdProcess(name, command, '', files.folder, env, **limits)
    lammps = find_lammps()
    plugin = HOST if name in (HOST, AGAIN, HOST_PAIR) else OURS
    style, model = 'e3gnn', 'ours.pt'
    if name in (HOST, AGAIN, OUR_PAIR):
        model = 'host.pt'
    if name in (ONE_RANK, TWO_RANKS):
        style, model = 'e3gnn/parallel', f'{files.segments} parallel'
    # the host's cannot do without a log
    command = [str(lammps.binary), '-nonbuf', '-nocite', '-log', f'{name}.log']
    if name == TWO_RANKS:
        command = [str(lammps.mpiexec), '-n', '2', *command]
    script = SCRIPT.format(
        data=f'{stem}.data', style=style, model=model, symbols=' '.join(SYMBOLS)
    )
    env = {**lammps.environment, **setting}
    env['LAMMPS_PLUGIN_PATH'] = str(files.plugins[plugin])
    return MdProcess(name, command, script, files.folder, env, **limits)
