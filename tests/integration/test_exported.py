"""Exported files in programs that have never heard of this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._const as const
import sevenn._keys as KEY
import torch
import yaml
from accelerators import FLAGS, converted, is_accelerated, pretend
from ase import Atoms
from ase.io import write
from helpers import (
    INGAN,
    assert_close,
    evaluate,
    save_checkpoint,
    structures,
    trained,
)
from sevenn.calculator import SevenNetCalculator
from sevenn.checkpoint import SevenNetCheckpoint

import sevennet_mf
from sevennet_mf import host
from sevennet_mf.deploy.export import export
from sevennet_mf.deploy.probe import probes
from sevennet_mf.model.load import load_model

WITHOUT_US = """
import json, sys, warnings
warnings.simplefilter('ignore')
import torch
from ase.io import read
from sevenn.calculator import SevenNetCalculator
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.scripts.deploy import deploy, deploy_parallel

results = {}
for path in json.loads(sys.argv[1]):
    calculator = SevenNetCalculator(path, device='cpu')
    results[path] = []
    for atoms in read('atoms.extxyz', ':'):
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        stress = atoms.get_stress().tolist() if atoms.pbc.all() else None
        results[path].append([float(energy), forces.tolist(), stress])
if sys.argv[2:] == ['deploy']:
    deploy(path, 'serial.pt')
    deploy_parallel(path, 'parallel')
    torch.jit.load('serial.pt')
file = SevenNetCheckpoint(path)
results['yaml'] = file.yaml_dict('continue')
assert 'Multimodal' not in str(file) and 'Modality' not in str(file)
assert not [m for m in sys.modules if m.split('.')[0] == 'sevennet_mf']
print(json.dumps(results))
"""


def without_us(
    paths: list[str], atoms: list[Atoms], folder: Path, *more: str
) -> dict[str, Any]:
    """What a process that never imports the plugin makes of these files."""
    write(folder / 'atoms.extxyz', atoms, columns=['symbols', 'positions'])
    command = [sys.executable, '-c', WITHOUT_US, json.dumps(paths), *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_sevenn_alone_predicts_the_same(tmp_path: Path) -> None:
    """Energies, forces and stresses of an encoding that the host does not have."""
    model, config = trained('lora', ('pbe', 'hse', 'r2scan'))
    source = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    names = ('hse', 'r2scan')
    paths = [export(source, str(tmp_path / f'{n}.pth'), n)[0] for n in names]
    paths.append(export(source, str(tmp_path / 'c0.pth'), 'common', 'hse')[0])
    atoms = structures(2)
    found = without_us(paths, atoms, tmp_path, 'deploy')
    energies = set()
    for name, path in zip(names, paths, strict=False):
        for one, (energy, forces, stress) in zip(atoms, found[path], strict=True):
            wanted = evaluate(model, [one], [name])
            assert energy == pytest.approx(float(wanted['energy'][0]), abs=2e-5)
            np.testing.assert_allclose(forces, wanted['forces'], atol=1e-5)
            ase_order = -wanted['stress'][0].numpy()[[0, 1, 2, 4, 5, 3]]
            np.testing.assert_allclose(stress, ase_order, atol=1e-6)
            energies.add(round(energy, 3))
    assert len(energies) == 4
    assert found['yaml']['model'][KEY.USE_BIAS_IN_LINEAR] is True
    assert found['yaml']['train'][KEY.USE_MODALITY] is False


def test_both_modalities_of_7net_mf_0_over_all_its_elements(tmp_path: Path) -> None:
    """Against the host's own calculator with `modal`."""
    paths = {}
    for fidelity in ('PBE', 'R2SCAN'):
        path, made = export('7net-mf-0', str(tmp_path / f'{fidelity}.pth'), fidelity)
        paths[fidelity] = path
        # measured: 6e-7 eV/atom and 2e-6 eV/Å
        assert made.deviation.energy < 5e-6
        assert made.deviation.forces < 2e-5
        assert len(made.elements) == 89
        assert bool(made.warnings) is (fidelity == 'R2SCAN')  # Yb
    elements = list(made.content['config'][KEY.TYPE_MAP])
    atoms = probes(elements, 5.0)[:12]
    assert set(elements) == {int(z) for one in atoms for z in one.numbers}
    found = without_us(list(paths.values()), atoms, tmp_path)
    for fidelity, path in paths.items():
        calculator = SevenNetCalculator(
            const.SEVENNET_MF_0, modal=fidelity, device='cpu'
        )
        for one, (energy, forces, _) in zip(atoms, found[path], strict=True):
            one.calc = calculator
            wanted = one.get_potential_energy()
            assert energy == pytest.approx(wanted, abs=1e-5 * len(one), rel=2e-7)
            np.testing.assert_allclose(forces, one.get_forces(), atol=1e-4)


def test_7net_mf_0_common_and_accelerated(tmp_path: Path) -> None:
    _, common = export('7net-mf-0', str(tmp_path / 'c.pth'), 'common', 'PBE')
    path, rows = export(
        '7net-mf-0', str(tmp_path / 'a.pth'), 'R2SCAN', accelerated=True
    )
    for made in (common, rows):
        assert made.deviation.energy < 5e-6
        assert made.deviation.forces < 2e-5
    energies = []
    (atoms,) = structures(1)
    for modal in ('R2SCAN', 'same_as_R2SCAN'):
        atoms.calc = SevenNetCalculator(path, modal=modal, device='cpu')
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]


@pytest.mark.parametrize('flag', FLAGS)
def test_accelerated_survives_the_hosts_conversion(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: Any
) -> None:
    """The host alone converts it with all numbers; those of a plain file it drops.

    The packages are pretended: the host's own code, on another convolution.
    """
    model, config = trained('gain', use_bias_in_linear=True)
    source = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    rows, _ = export(source, str(tmp_path / 'a.pth'), 'r2scan', accelerated=True)
    plain, _ = export(source, str(tmp_path / 'p.pth'), 'r2scan')
    atoms = structures(2)
    wanted = evaluate(model, atoms, ['r2scan'] * 2)
    before = host.is_registered()
    sevennet_mf.unregister()
    pretend(monkeypatch)
    try:
        carried, lost = converted(rows, flag), converted(plain, flag)
    finally:
        if before:
            sevennet_mf.register()
    assert is_accelerated(carried)
    original = SevenNetCheckpoint(rows).build_model().state_dict()
    state = carried.state_dict()
    shared = [k for k in original if '_convolution.convolution.' not in k]
    assert len(shared) > 20
    for name in shared:
        assert torch.equal(original[name], state[name]), name
    for row in ('r2scan', 'same_as_r2scan'):
        assert_close(evaluate(carried, atoms, [row] * 2), wanted)
    if flag != 'enable_cueq':  # where the host falls back to e3nn instead
        apart = evaluate(lost, atoms, [None] * 2)['energy'] - wanted['energy']
        assert float(apart.abs().max()) > 0.01


def test_the_host_goes_on_training_from_it(tmp_path: Path) -> None:
    """As a plain pretrained model: from its own yaml, in a process without us."""
    model, config = trained('gain')
    source = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    path, _ = export(source, str(tmp_path / 'r.pth'), 'r2scan')
    sections = SevenNetCheckpoint(path).yaml_dict('continue')
    # it has no optimiser's state, as every published model of SevenNet
    sections['train'][KEY.CONTINUE] |= {
        KEY.RESET_OPTIMIZER: True,
        KEY.RESET_SCHEDULER: True,
        KEY.RESET_EPOCH: True,
    }
    sections['train'] |= {
        KEY.EPOCH: 1,
        KEY.OPTIM_PARAM: {'lr': 0.0},
        KEY.SCHEDULER: 'exponentiallr',
        KEY.SCHEDULER_PARAM: {'gamma': 1.0},
    }
    data = str(INGAN / 'pbe_valid.extxyz')
    sections['data'] |= {
        KEY.BATCH_SIZE: 4,
        KEY.LOAD_TRAINSET: [data],
        KEY.LOAD_VALIDSET: [data],
        KEY.SHIFT: 0.0,
        KEY.SCALE: 1.0,
    }
    (tmp_path / 'input.yaml').write_text(yaml.safe_dump(sections))
    command = 'import sys; from sevenn.main.sevenn import main; main()'
    done = subprocess.run(
        [sys.executable, '-c', command, 'train', 'input.yaml', '-s'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    trained_on = load_model(str(tmp_path / 'checkpoint_best.pth')).model
    atoms = structures(2)
    wanted = evaluate(model, atoms, ['r2scan'] * 2)
    assert_close(evaluate(trained_on, atoms, [None] * 2), wanted)
