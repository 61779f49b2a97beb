"""Predictions for data sets: against the host's calculator, and in precision."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from helpers import (
    CUTOFF,
    INGAN,
    assert_close,
    build,
    randomise,
    to_double,
    trained,
)
from helpers import evaluate as host_evaluate
from sevenn.calculator import SevenNetCalculator
from torch_geometric.data import Batch

from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.processed.build import load_or_build
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predict import match_fidelities, predict
from sevennet_mf.model.load import load_model

HOST_ORDER = [0, 1, 2, 5, 3, 4]  # of ASE's xx yy zz yz xz xy


def dataset_of(
    folder: Path,
    entries: Sequence[dict[str, Any]],
    names: Sequence[str],
    cutoff: float = CUTOFF,
) -> FidelityDataset:
    parts = [load_or_build(e, None, names, cutoff, folder) for e in entries]
    return FidelityDataset(parts, names)


def ingan_entries(low: str, high: str, n: int = 3) -> list[dict[str, Any]]:
    files = {low: 'pbe_valid.extxyz', high: 'r2scan_valid.extxyz'}
    return [
        {'file': [str(INGAN / file)], 'fidelity': name, 'index': f':{n}'}
        for name, file in files.items()
    ]


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(
    model: torch.nn.Module, before: dict[str, torch.Tensor]
) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize('name', ['7net-0', '7net-mf-0'])
def test_pretrained_predict_as_the_host(name: str, tmp_path: Path) -> None:
    loaded = load_model(name)
    entries = ingan_entries('PBE', 'R2SCAN')
    dataset = dataset_of(tmp_path, entries, ('R2SCAN', 'PBE'), loaded.cutoff)
    found = predict(loaded.model, dataset, batch_size=4)
    single = len(loaded.fidelities) == 1
    atoms = [a for e in entries for a in ase.io.read(e['file'][0], e['index'])]
    names = [e['fidelity'] for e in entries for _ in range(3)]
    assert [found.fidelities[i] for i in found.fidelity] == names
    for modal in found.fidelities:
        own = None if single else modal
        host = SevenNetCalculator(name, modal=own, device='cpu')
        for i in found.rows(modal):
            atoms[i].calc = host
            # float32 totals of -95 eV have a grain of 8e-6 eV
            assert found.energy[i] == pytest.approx(
                atoms[i].get_potential_energy(), abs=4e-5
            )
            np.testing.assert_allclose(
                found.forces[i], atoms[i].get_forces(), atol=1e-5
            )
            np.testing.assert_allclose(
                found.stress[i], -atoms[i].get_stress()[HOST_ORDER], atol=1e-6
            )


@pytest.mark.parametrize('encoding', ['bias', 'lora'])
def test_each_structure_at_its_fidelity(encoding: str, tmp_path: Path) -> None:
    model, _ = trained(encoding)
    dataset = dataset_of(tmp_path, ingan_entries('pbe', 'r2scan'), ('pbe', 'r2scan'))
    before = weights(model)
    found = predict(model, dataset, batch_size=4)
    assert_unchanged(model, before)
    files = [('pbe', 'pbe_valid.extxyz'), ('r2scan', 'r2scan_valid.extxyz')]
    atoms = [a for _, f in files for a in ase.io.read(INGAN / f, ':3')]
    wanted = host_evaluate(model, atoms, ['pbe'] * 3 + ['r2scan'] * 3)
    result = {
        'energy': torch.from_numpy(found.energy).float(),
        'forces': torch.from_numpy(np.concatenate(found.forces)).float(),
        'stress': torch.from_numpy(found.stress).float(),
    }
    assert_close(result, wanted)
    # the two fidelities do differ
    other = predict(model, dataset, predict_as='pbe')
    assert other.predicted_as == ('pbe', 'pbe')
    np.testing.assert_allclose(other.energy[:3], found.energy[:3], rtol=1e-6)
    assert np.abs(other.energy[3:] - found.energy[3:]).min() > 0.1


def test_all_electron_energies_lose_nothing(molecules: Path, tmp_path: Path) -> None:
    """Totals near -6000 eV, whose float32 grain is 5e-4 eV (trap 21)."""
    names = ('pbe', 'ccsdt')
    species = ['C', 'H', 'N', 'O']
    _, config = trained(names=names, chemical_species=species)
    atomic = {'C': -1030.123, 'H': -13.456, 'N': -1485.789, 'O': -2041.321}
    univ = np.zeros(119)
    for symbol, energy in atomic.items():
        univ[atomic_numbers[symbol]] = energy
    config[KEY.SHIFT] = {n: (univ - i).tolist() for i, n in enumerate(names)}
    model = build(config)
    randomise(model)
    entries = [
        {'file': [str(molecules / 'ccsdt_test.extxyz')], 'fidelity': 'ccsdt'},
        {'file': [str(molecules / 'pbe_valid.extxyz')], 'fidelity': 'pbe'},
    ]
    dataset = dataset_of(tmp_path, entries, names)
    found = predict(model, dataset, batch_size=16)
    graphs = [dataset[i] for i in range(len(dataset))]
    for one in graphs:
        one[KEY.EDGE_VEC] = one[KEY.EDGE_VEC].double()
    exact = to_double(copy.deepcopy(model))(Batch.from_data_list(graphs))
    exact = exact[KEY.PRED_TOTAL_ENERGY].detach().numpy()
    assert np.abs(exact).max() > 5000
    error = np.abs(found.energy - exact) / found.n_atoms
    assert error.max() < 1e-6
    # what the model itself returns is worse: this test can fail
    plain = model(Batch.from_data_list([dataset[i] for i in range(len(dataset))]))
    coarse = plain[KEY.PRED_TOTAL_ENERGY].detach().double().numpy()
    assert (np.abs(coarse - exact) / found.n_atoms).max() > 1e-5


def test_labels_are_the_files(tmp_path: Path) -> None:
    model, _ = trained()
    names = ('pbe', 'r2scan')
    dataset = dataset_of(tmp_path, ingan_entries(*names), names)
    dataset.set_reference(np.full((2, 119), -4.0))  # residuals must not leak in
    found = predict(model, dataset)
    for i, atoms in enumerate(ase.io.read(INGAN / 'pbe_valid.extxyz', ':3')):
        assert found.label_energy[i] == atoms.get_potential_energy()
        forces, stress = atoms.get_forces(), -atoms.get_stress()[HOST_ORDER]
        np.testing.assert_allclose(found.label_forces[i], forces, rtol=1e-6)
        np.testing.assert_allclose(found.label_stress[i], stress, 1e-5, 1e-9)
    assert np.isnan(found.label_stress[3:]).all()  # r2SCAN has none
    assert found.sources[4].endswith('r2scan_valid.extxyz:1')
    labelled = found.labelled(np.arange(6))
    assert labelled['force'].all()
    assert labelled['stress'].tolist() == [True] * 3 + [False] * 3


def written(path: Path, atoms: list[Atoms]) -> dict[str, Any]:
    for one in atoms:
        one.calc = SinglePointCalculator(one, energy=-1.0)
    ase.io.write(path, atoms)
    return {'file': [str(path)], 'fidelity': 'pbe'}


def test_structure_without_neighbours(tmp_path: Path) -> None:
    model, _ = trained()
    alone = [Atoms('N', cell=[20, 20, 20], pbc=True), Atoms('Ga')]
    entry = written(tmp_path / 'a.xyz', alone)
    dataset = dataset_of(tmp_path, [entry], ('pbe', 'r2scan'))
    found = predict(model, dataset, batch_size=1)
    assert [f.tolist() for f in found.forces] == [[[0, 0, 0]], [[0, 0, 0]]]
    assert found.stress[0].tolist() == [0] * 6
    assert np.isnan(found.stress[1]).all()  # no volume to refer it to
    assert np.isfinite(found.energy).all()
    assert np.isnan(found.label_forces[0]).all()


def test_batch_size_changes_nothing(tmp_path: Path) -> None:
    model, _ = trained()
    names = ('pbe', 'r2scan')
    dataset = dataset_of(tmp_path, ingan_entries(*names), names)
    one, all_ = (predict(model, dataset, batch_size=n) for n in (1, 100))
    np.testing.assert_allclose(one.energy, all_.energy, rtol=1e-6)
    np.testing.assert_allclose(
        np.concatenate(one.forces), np.concatenate(all_.forces), atol=1e-5
    )
    np.testing.assert_allclose(one.stress, all_.stress, atol=1e-6)


def test_model_is_restored_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = trained()
    model.set_is_batch_data(False)
    model.train()
    dataset = dataset_of(tmp_path, ingan_entries('pbe', 'r2scan'), ('pbe', 'r2scan'))
    before = weights(model)

    def fail(self: Any, i: int) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(FidelityDataset, '__getitem__', fail)
    with pytest.raises(KeyboardInterrupt):
        predict(model, dataset)
    assert_unchanged(model, before)
    assert model.training
    assert not model.is_batch_data


def test_foreign_element(tmp_path: Path) -> None:
    model, _ = trained()
    entry = written(tmp_path / 'a.xyz', [Atoms('Al2', positions=np.eye(3)[:2] * 2)])
    dataset = dataset_of(tmp_path, [entry], ('pbe', 'r2scan'))
    with pytest.raises(UserError, match=r'a\.xyz:0.*does not know Al'):
        predict(model, dataset)


def test_fidelities_that_do_not_match() -> None:
    with pytest.raises(UserError, match="fidelity 'r2scna'.*Did you mean 'r2scan'"):
        match_fidelities(('pbe', 'r2scan'), ['pbe', 'r2scna'])
    with pytest.raises(UserError, match="predict_as.*got 'hse'"):
        match_fidelities(('pbe', 'r2scan'), ['pbe'], 'hse')
    assert match_fidelities(('one',), ['pbe', 'hse']) == ('one', 'one')
    assert match_fidelities(('a', 'b'), ['c', 'd'], 'b') == ('b', 'b')


def test_unknown_device(tmp_path: Path) -> None:
    model, _ = trained()
    dataset = dataset_of(tmp_path, ingan_entries('pbe', 'r2scan'), ('pbe', 'r2scan'))
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used.*Use cpu"):
        predict(model, dataset, device='cuda:99')
    assert len(predict(model, dataset, device='auto')) == 6
