"""`bias` files are the host's files, both ways; richer ones are never misread."""

import functools
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
from ase.io import write
from helpers import (
    ARCHITECTURES,
    ENCODINGS,
    NAMES,
    assert_close,
    build,
    evaluate,
    graph,
    host_config,
    model_config,
    registered,
    save_checkpoint,
    structures,
    trained,
)
from sevenn.calculator import SevenNetCalculator
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.nn.sequential import AtomGraphSequential
from sevenn.scripts.deploy import deploy, deploy_parallel
from torch_geometric.data import Batch

from sevennet_mf import keys
from sevennet_mf.config.blocks import ModelFidelity
from sevennet_mf.model.build import fidelity_layers

THREE = ('pbe', 'hse', 'r2scan')


def as_ours(config: dict[str, Any], encoding: str = 'bias') -> dict[str, Any]:
    """The host's configuration with its switches said our way."""
    sites = [site for site, switch in keys.SITE_SWITCH.items() if config[switch]]
    block = ModelFidelity.model_validate({'encoding': encoding, 'sites': sites})
    return {**config, keys.FIDELITY_MODEL: block.model_dump()}


def assert_same_bits(
    found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


@functools.cache
def trained_by_host(names: tuple[str, ...]) -> tuple[AtomGraphSequential, dict]:
    """The host's own multi-modal model after some steps on real structures.

    Shared between tests, since building takes long: read only.
    """
    config = host_config(model_config(names=names))
    model = build(config).train()
    adam = torch.optim.Adam(model.parameters(), lr=0.05)
    atoms = structures(len(names))
    labels = torch.tensor([a.get_potential_energy() for a in atoms])
    for _ in range(5):
        adam.zero_grad()
        graphs = [graph(a, f) for a, f in zip(atoms, names, strict=True)]
        energy = model(Batch.from_data_list(graphs))[KEY.PRED_TOTAL_ENERGY]
        (energy - labels).square().mean().backward()
        adam.step()
    return model.eval(), config


# ---- from the host


@pytest.fixture(scope='module')
def pretrained() -> tuple[SevenNetCheckpoint, AtomGraphSequential]:
    """7net-MF-0 as the host ships it: PBE and r2SCAN, 119 elements.

    Loaded with the plugin registered: it stays the host's.
    """
    checkpoint = SevenNetCheckpoint(const.SEVENNET_MF_0)
    with registered():
        model = checkpoint.build_model().eval()
    assert fidelity_layers(model) == []
    return checkpoint, model


def test_pretrained_model_becomes_ours(pretrained: Any, tmp_path: Path) -> None:
    checkpoint, host = pretrained
    config = as_ours(checkpoint.config)
    # the host's own file with one more key in its configuration
    content = torch.load(const.SEVENNET_MF_0, weights_only=False, map_location='cpu')
    content['config'] = config
    torch.save(content, tmp_path / 'ours.pth')
    with registered():  # the host's loader is strict
        ours = SevenNetCheckpoint(tmp_path / 'ours.pth').build_model().eval()
    assert len(fidelity_layers(ours)) > 5

    names = list(config[KEY.MODAL_MAP])
    assert len(names) == 2
    atoms = structures(1) * 2
    cutoff = config[KEY.CUTOFF]
    wanted = evaluate(host, atoms, names, cutoff)
    found = evaluate(ours, atoms, names, cutoff)
    # float32 rounding, which the design allows as 4 ulp and 1e-4 eV/Å
    assert_close(found, wanted, atol=2e-5, rtol=2e-6)
    assert abs(wanted['energy'][0] - wanted['energy'][1]) > 1.0

    assert_same_bits(ours.state_dict(), host.state_dict())
    in_file = checkpoint.model_state_dict
    weights = [name for name in in_file if name.endswith('.linear.weight')]
    state = ours.state_dict()
    assert len(weights) > 10
    assert all(torch.equal(state[name], in_file[name]) for name in weights)


def test_host_trained_three_modalities() -> None:
    host, config = trained_by_host(THREE)
    rows = host.get_submodule('reduce_input_to_hidden').linear.weight
    assert rows[-3:].any()
    ours = build(as_ours(config))
    ours.load_state_dict(host.state_dict(), strict=True)
    atoms = structures(3)
    wanted = evaluate(host, atoms, list(THREE))
    assert_close(evaluate(ours, atoms, list(THREE)), wanted)
    assert_same_bits(ours.state_dict(), host.state_dict())


@pytest.mark.parametrize('encoding', ['gain', 'lora'])
def test_host_weights_start_a_richer_encoding(encoding: str) -> None:
    host, config = trained_by_host(NAMES)
    ours = build(as_ours(config, encoding))
    missing, unexpected = ours.load_state_dict(host.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split('.')[1] for name in missing} <= {
        'gain', 'lora_a', 'lora_b', 'lora_down', 'lora_up'
    }  # fmt: skip
    atoms = structures(2)
    wanted = evaluate(host, atoms, list(NAMES))
    assert_close(evaluate(ours, atoms, list(NAMES)), wanted)


@pytest.mark.parametrize('encoding', ['bias', 'lora'])
def test_another_number_of_fidelities_is_refused(encoding: str) -> None:
    host, _ = trained_by_host(THREE)
    ours = build(model_config(encoding))
    with pytest.raises(RuntimeError, match='2 fidelities need') as caught:
        ours.load_state_dict(host.state_dict(), strict=False)
    assert 'reduce_input_to_hidden.linear.weight has ' in str(caught.value)


def test_a_single_fidelity_model_is_refused() -> None:
    plain = build(model_config(names=('pbe',)))
    with pytest.raises(RuntimeError, match='2 fidelities need'):
        build(model_config()).load_state_dict(plain.state_dict(), strict=False)


# ---- to the host


@pytest.mark.parametrize(
    ('architecture', 'use_bias'), [('lmax2', False), ('parity', True)]
)
def test_ours_becomes_the_hosts(architecture: str, use_bias: bool) -> None:
    options = {**ARCHITECTURES[architecture], 'use_bias_in_linear': use_bias}
    ours, config = trained('bias', THREE, **options)
    host = build(host_config(config))
    assert fidelity_layers(host) == []
    host.load_state_dict(ours.state_dict(), strict=True)
    atoms = structures(3)
    wanted = evaluate(ours, atoms, list(THREE))
    assert_close(evaluate(host, atoms, list(THREE)), wanted)
    assert_same_bits(host.state_dict(), ours.state_dict())


PLAIN_SEVENN = """
import json, sys, warnings
warnings.simplefilter('ignore')
from ase.io import read
from sevenn.calculator import SevenNetCalculator

files, structures = json.loads(sys.argv[1]), sys.argv[2]
results = {}
for name, path in files.items():
    try:
        results[name] = {}
        for modal in ('pbe', 'r2scan'):
            calculator = SevenNetCalculator(path, modal=modal, device='cpu')
            results[name][modal] = []
            for atoms in read(structures, ':'):
                atoms.calc = calculator
                energy = atoms.get_potential_energy()
                forces, stress = atoms.get_forces(), atoms.get_stress()
                results[name][modal].append(
                    [float(energy), forces.tolist(), stress.tolist()]
                )
    except Exception as error:
        results[name] = f'{type(error).__name__}: {error}'
assert not [m for m in sys.modules if m.split('.')[0] == 'sevennet_mf']
print(json.dumps(results))
"""


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each encoding, written by us with theta_T as if trained."""
    folder = tmp_path_factory.mktemp('checkpoints')
    result = {}
    for encoding in ENCODINGS:
        model, config = trained(encoding, **ARCHITECTURES['lmax2'])
        result[encoding] = save_checkpoint(folder / f'{encoding}.pth', model, config)
    return result


@pytest.fixture(scope='module')
def without_plugin(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a process that never imports the plugin makes of these files."""
    folder = tmp_path_factory.mktemp('plain')
    write(folder / 'atoms.extxyz', structures(2), columns=['symbols', 'positions'])
    names = json.dumps({name: str(path) for name, path in files.items()})
    command = [sys.executable, '-c', PLAIN_SEVENN, names, 'atoms.extxyz']
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_plain_sevenn_predicts_the_same(
    files: dict[str, Path], without_plugin: dict[str, Any], recwarn: Any
) -> None:
    energies = []
    for modal in NAMES:
        with registered():
            calculator = SevenNetCalculator(files['bias'], modal=modal, device='cpu')
        assert fidelity_layers(calculator.model)
        for atoms, (energy, forces, stress) in zip(
            structures(2), without_plugin['bias'][modal], strict=True
        ):
            atoms.calc = calculator
            close = {'atol': 2e-5, 'rtol': 1e-6}
            np.testing.assert_allclose(energy, atoms.get_potential_energy(), **close)
            np.testing.assert_allclose(forces, atoms.get_forces(), **close)
            np.testing.assert_allclose(stress, atoms.get_stress(), **close)
            energies.append(energy)
    assert abs(energies[0] - energies[2]) > 0.1
    assert np.abs(forces).max() > 0.01


@pytest.mark.parametrize('encoding', ['gain', 'lora'])
def test_plain_sevenn_refuses_what_it_cannot_predict(
    encoding: str, without_plugin: dict[str, Any]
) -> None:
    """Never a silently different energy."""
    answer = without_plugin[encoding]
    assert isinstance(answer, str)
    assert answer.startswith('RuntimeError: ')
    assert 'Unexpected key(s) in state_dict' in answer
    assert {'gain': '.gain.0', 'lora': '.lora_a.0'}[encoding] in answer


# ---- the host's tools with the plugin


@pytest.mark.parametrize('encoding', ['bias', 'lora'])
def test_host_deploys_ours(
    encoding: str, files: dict[str, Path], tmp_path: Path, recwarn: Any
) -> None:
    with registered():
        deploy(files[encoding], str(tmp_path / 'serial.pt'), modal='r2scan')
        deploy_parallel(files[encoding], str(tmp_path / 'many'), modal='r2scan')
        model = SevenNetCheckpoint(files[encoding]).build_model().eval()
    assert len(list((tmp_path / 'many').iterdir())) == 2  # one per convolution

    (atoms,) = structures(1)
    wanted = evaluate(model, [atoms], ['r2scan'])['energy']
    data = {
        name: value
        for name, value in graph(atoms, None).to_dict().items()
        if isinstance(value, torch.Tensor)
    }
    data[KEY.NODE_FEATURE] = torch.tensor([model.type_map[z] for z in atoms.numbers])
    output = torch.jit.load(tmp_path / 'serial.pt')(data)
    energy = output[KEY.PRED_TOTAL_ENERGY].detach().reshape(1)
    assert_close({'energy': energy}, {'energy': wanted})
