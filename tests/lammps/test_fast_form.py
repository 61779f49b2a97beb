"""The fast form in a deployed file gives what ASE gives, serial and parallel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sevenn._keys as KEY
import torch
from ase import Atoms
from helpers import (
    build,
    graph,
    host_config,
    model_config,
    save_checkpoint,
    to_double,
)
from lammps_helpers import run_lmp, write_data
from pair_models import (
    CELLS,
    SPECIES,
    Deployed,
    assert_agrees,
    bulk,
    close,
    evaluate,
)
from sevenn.calculator import SevenNetCalculator

from sevennet_mf.deploy.torchscript import deploy
from sevennet_mf.kernels import library

pytestmark = pytest.mark.skipif(
    library.path() is None, reason='the kernel was not compiled here'
)
PARITY = {'is_parity': True, 'self_connection_type': 'nequip', 'channel': 5}


def deployed(folder: Path, table: bool = True, **model: object) -> Deployed:
    """A small model, deployed by us for both styles."""
    model = {'num_convolution_layer': 3, 'lmax': 2, **model}
    config = host_config(model_config('bias', names=('pbe',), **model))
    checkpoint = save_checkpoint(folder / 'model.pth', build(config), config)
    made = Deployed(checkpoint, folder / 'serial.pt', folder / 'parallel')
    deploy(str(checkpoint), str(made.serial), table=table)
    deploy(str(checkpoint), str(made.folder), parallel=True, table=table)
    return made


def exact(model: Deployed, atoms: Atoms) -> dict[str, Any]:
    """What e3nn finds in float64, as SevenNet's calculator would give it.

    In float32 e3nn is farther from it than the fast form.
    """
    found = model.reference(atoms)
    calculator = SevenNetCalculator(
        str(model.checkpoint), device='cpu', compute_atomic_virial=True
    )
    own = to_double(calculator.model)
    data = own(graph(atoms, None, dtype=torch.float64))
    if KEY.PRED_FORCE not in data:  # nobody sees anybody
        return found
    values = {
        'energy': data[KEY.PRED_TOTAL_ENERGY],
        'energies': data[KEY.ATOMIC_ENERGY].reshape(-1),
        'forces': data[KEY.PRED_FORCE],
        'stress': -data[KEY.PRED_STRESS].reshape(6)[[0, 1, 2, 4, 5, 3]],
        'stresses': data[KEY.PRED_ATOMIC_VIRIAL],
    }
    return {name: value.detach().numpy() for name, value in values.items()}


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deployed(tmp_path_factory.mktemp('table'))


def carried(log: str) -> str:
    """What the pair style says that its convolutions are computed with."""
    return re.findall(r'convolutions (\w+)', log)[0]


@pytest.mark.parametrize('cell', CELLS)
@pytest.mark.parametrize(
    ('style', 'ranks'),
    [('e3gnn', 1), ('e3gnn/parallel', 1), ('e3gnn/parallel', 2)],
)
def test_every_cell_as_in_ase(
    style: str,
    ranks: int,
    cell: str,
    model: Deployed,
    tmp_path: Path,
    lmp_env: dict[str, str],
) -> None:
    atoms, result = evaluate(
        CELLS[cell](), model.pair(style), tmp_path, lmp_env, ranks
    )
    assert carried(result.log) == 'fused'
    assert_agrees(atoms, exact(model, atoms), tmp_path, result)


@pytest.mark.parametrize('kind', ['network', 'parity'])
def test_other_models_as_in_ase(
    kind: str, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    model = (
        deployed(tmp_path, table=False)
        if kind == 'network'
        else deployed(tmp_path, **PARITY)
    )
    for style in ('e3gnn', 'e3gnn/parallel'):
        pair = model.pair(style)
        atoms, result = evaluate(bulk((2, 2, 2)), pair, tmp_path, lmp_env)
        assert carried(result.log) == 'fused'
        assert_agrees(atoms, exact(model, atoms), tmp_path, result)


def test_threads_and_the_switch(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    found = {}
    for name, change in {
        'one': {},
        'two': {'OMP_NUM_THREADS': '2'},
        'off': {'SEVENNET_MF_FUSED': 'Off'},
    }.items():
        env = {**lmp_env, **change}
        _, result = evaluate(bulk((2, 2, 2)), model.pair('e3gnn'), tmp_path, env)
        found[name] = result.thermo[-1]['PotEng'], result.stress
        assert carried(result.log) == ('e3nn' if name == 'off' else 'fused')
    energy, stress = found['one']
    for name in ('two', 'off'):
        assert found[name][0] == pytest.approx(energy, abs=1e-4)
        close(found[name][1], stress, 'stress', 1e-6)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('SEVENNET_MF_FUSED', "must be on, off or always, got 'of'"),
        ('SEVENNET_MF_INSTRUCTION_SET', 'must be plain, avx2 or avx512, and'),
    ],
)
def test_a_switch_without_meaning_is_refused(
    name: str,
    message: str,
    model: Deployed,
    tmp_path: Path,
    lmp_env: dict[str, str],
) -> None:
    write_data(bulk((1, 1, 1)), tmp_path / 'data.lmp', SPECIES)
    script = f'units metal\nread_data data.lmp\n{model.pair("e3gnn")}\n'
    result = run_lmp(script, tmp_path, {**lmp_env, name: 'of'})
    assert result.returncode != 0
    assert f'{name} {message}' in result.error
