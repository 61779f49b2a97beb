"""SevenNet's later checkpoints, in every command: 7net-mf-ompa and 7net-omni.

Small models with the configuration of the published ones: the same switches, parity,
degrees and modalities, and the keys that their training wrote; fewer channels and
layers.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._const as const
import sevenn._keys as KEY
import sevenn.util
import torch
from ase.io import write
from helpers import build, evaluate, registered, structures
from sevenn.checkpoint import SevenNetCheckpoint

from sevennet_mf.cli import main
from sevennet_mf.deploy.probe import ask
from sevennet_mf.model.load import load_model

OMPA = ('mpa', 'omat24')
OMNI = (
    *('mpa', 'omat24', 'matpes_pbe', 'oc20', 'oc22', 'odac23', 'omol25_low'),
    *('omol25_high', 'spice', 'qcml', 'pet_mad', 'mp_r2scan', 'matpes_r2scan'),
)
# as mf_ompa_fine_tune.yaml has it, with 2 channels instead of 128 and 2 layers
MODEL: dict[str, Any] = {
    'cutoff': 4.0,
    'channel': 2,
    'irreps_manual': [
        '2x0e',
        '2x0o+2x0e+1x1o+1x1e+1x3o',
        '2x0e',
    ],
    'lmax': 3,
    'lmax_edge': -1,
    'lmax_node': -1,
    'is_parity': True,
    'num_convolution_layer': 2,
    'radial_basis': {'radial_basis_name': 'bessel', 'bessel_basis_num': 8},
    'cutoff_function': {'cutoff_function_name': 'XPLOR', 'cutoff_on': 3.5},
    'weight_nn_hidden_neurons': [4, 4],
    'use_modal_node_embedding': False,
    'use_modal_self_inter_intro': True,
    'use_modal_self_inter_outro': True,
    'use_modal_output_block': True,
    'readout_as_fcn': False,
    'self_connection_type': 'nequip',
    'interaction_type': 'nequip',
    'cuequivariance_config': {},
}
# what training in batches, as omni-train has it, leaves in the configuration
TRAIN: dict[str, Any] = {
    'loss': {
        'energy': {'loss_type': 'mae', 'loss_weight': 1.0},
        'force': {'loss_type': 'l2mae', 'loss_param': {'prop': 'force'}},
        'stress': {'loss_type': 'l2mae', 'loss_param': {'prop': 'stress'}},
    },
    'optimizer': 'adamw',
    'optim_param': {'lr': 0.0002, 'weight_decay': 0.001},
    'scheduler': 'onecyclelr',
    'scheduler_param': {'max_lr': 0.001, 'epochs': 2, 'total_steps': 4096},
    'scheduler_batch_mode': True,
    'energy_loss_weight': 1.0,
    'force_loss_weight': 10.0,
    'stress_loss_weight': 0.01,
    'grad_clip': 100.0,
    'regularization_param': {'modal': {'regularization_weight': 1e-5}},
    'train_by_batch': True,
    'per_epoch': 0.1,
    'train_shift': False,
    'train_scale': False,
    'error_record': [['Energy', 'MAE'], ['L2_modal', 'Loss'], ['Modal_cos', 'None']],
    'dataset_type': 'custom',
    'loader_kwargs': {'pin_memory': True},
    'load_trainset_path': ['./dataset.py'],
    'load_trainset_sequence': {'total_sequence_path': './sequence.npy'},
}


def written_by(version: str, names: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """The configuration of a file with these modalities."""
    config = copy.deepcopy(const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG)
    config.pop('fidelity_model', None)
    config |= copy.deepcopy(const.DEFAULT_TRAINING_CONFIG)
    config |= copy.deepcopy(const.DEFAULT_DATA_CONFIG)
    config |= sevenn.util.chemical_species_preprocess([], universal=True)
    config |= copy.deepcopy(MODEL) | copy.deepcopy(more)
    n_elements = config[KEY.NUM_SPECIES]
    generator = torch.Generator().manual_seed(5)
    shift = -4 * torch.rand(len(names), n_elements, generator=generator)
    return config | {
        'version': version,
        KEY.USE_MODALITY: True,
        KEY.NUM_MODALITIES: len(names),
        KEY.MODAL_MAP: {name: i for i, name in enumerate(names)},
        KEY.USE_MODAL_WISE_SHIFT: True,
        KEY.USE_MODAL_WISE_SCALE: False,
        KEY.SHIFT: shift.tolist(),
        KEY.SCALE: [1.7] * n_elements,
        KEY.CONV_DENOMINATOR: [6.0] * config[KEY.NUM_CONVOLUTION],
    }


def saved(path: Path, config: dict[str, Any], **content: Any) -> Path:
    """A file with random weights, of the modalities too."""
    model = build(config)
    state = model.state_dict()
    torch.save({'model_state_dict': state, 'config': config, **content}, path)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files, and labelled structures."""
    folder = tmp_path_factory.mktemp('checkpoints')
    # a file for inference has no state of an optimiser: a new one starts
    none = {'optimizer_state_dict': {}, 'scheduler_state_dict': None}
    saved(folder / 'ompa.pth', written_by('0.11.0', OMPA), epoch=2, **none)
    saved(
        folder / 'omni.pth',
        written_by('0.12.0', OMNI, **TRAIN),
        epoch=1,
        data_progress={'total_data_num': 64, 'current_data_index': 32},
    )
    write(folder / 'labels.extxyz', structures(2))
    return folder


def run(folder: Path, *words: str) -> str:
    """`sevennet-mf` in the folder; return what it prints."""
    printed = io.StringIO()
    with registered(), contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert main(list(words)) == 0
    return printed.getvalue()


BOTH = pytest.mark.parametrize(
    ('name', 'names'), [('ompa', OMPA), ('omni', OMNI)], ids=['ompa', 'omni']
)


@BOTH
def test_info_shows_every_fidelity(
    name: str, names: tuple[str, ...], folder: Path
) -> None:
    said = run(folder, 'info', f'{name}.pth')
    assert ', '.join(names[:2]) in said
    assert max(map(len, said.splitlines())) <= 100
    shifts = written_by('0', names)[KEY.SHIFT]
    for energies in shifts:  # of 118 elements, in whatever table
        for energy in energies[1:4]:
            assert f'{energy:.3f}' in said
    for fidelity in names:
        assert f' {fidelity} ' in said
    assert '…' not in said


def test_export_evaluate_and_continue_ompa(folder: Path) -> None:
    run(folder, 'export', 'ompa.pth', '--fidelity', 'omat24', '-o', 'plain.pth')
    assert load_model(str(folder / 'plain.pth')).fidelities == ('omat24',)
    said = run(
        folder, 'evaluate', 'ompa.pth', 'labels.extxyz', '--fidelity', 'omat24'
    )
    assert 'omat24' in said
    trained = continued(folder, 'ompa.pth', 'omat24', order=list(OMPA))
    assert trained.fidelities == OMPA


def test_export_and_evaluate_omni(folder: Path) -> None:
    """A modality of thirteen predicts what it does in the host's own model."""
    chosen = 'matpes_r2scan'
    run(folder, 'export', 'omni.pth', '--fidelity', chosen, '-o', 'r2scan.pth')
    loaded = load_model(str(folder / 'r2scan.pth'))
    atoms = structures(2)
    found = ask(loaded.model, atoms, loaded.cutoff, None)
    host = SevenNetCheckpoint(folder / 'omni.pth').build_model().eval()
    wanted = evaluate(host, atoms, [chosen, chosen], loaded.cutoff)
    np.testing.assert_allclose(found.energy, wanted['energy'], rtol=1e-5, atol=2e-5)
    said = run(folder, 'evaluate', 'omni.pth', 'labels.extxyz', '--fidelity', chosen)
    assert chosen in said


def continued(folder: Path, start: str, fidelity: str, **block: Any) -> Any:
    """Train for an epoch from a file; return the best checkpoint."""
    yaml = {
        'train': {
            'epoch': 1,
            'optim_param': {'lr': 1e-4},
            'continue': {'checkpoint': start, 'reset_epoch': True},
            'fidelity': {'target': fidelity, 'steps_per_epoch': 1},
        },
        'data': {
            'batch_size': 2,
            'load_trainset_path': [{'file': 'labels.extxyz', 'fidelity': fidelity}],
            'fidelity': block,
        },
    }
    work = folder / f'run_{fidelity}'
    work.mkdir()
    (work / 'input.yaml').write_text(json.dumps(yaml))
    with registered(), contextlib.chdir(folder):
        assert main(['train', str(work / 'input.yaml'), '-w', str(work)]) == 0
    return load_model(str(work / 'checkpoint_best.pth'))


def test_extend_and_continue_omni(folder: Path) -> None:
    """Fourteen fidelities, of which one is new."""
    run(
        *(folder, 'extend', 'omni.pth', 'labels.extxyz', '-f', 'hse'),
        *('--start_from', 'matpes_r2scan', '-o', 'more.pth'),
    )
    trained = continued(folder, 'more.pth', 'hse', order=[*OMNI, 'hse'])
    assert trained.fidelities == (*OMNI, 'hse')


def test_deploy_omni(folder: Path) -> None:
    said = run(
        folder, 'deploy', 'omni.pth', '-f', 'oc20', '--no_table', '-o', 'oc20.pt'
    )
    assert 'a model for pair_style e3gnn' in said
    assert (folder / 'oc20.pt').is_file()
