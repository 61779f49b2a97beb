"""Labels that a pretrained model gives itself are what it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import read
from helpers import INGAN, NAMES, structures
from pretrained_helpers import pretrained
from sevenn.train.graph_dataset import SevenNetGraphDataset
from train_helpers import data_of, yaml_of

from sevennet_mf.config.blocks import SelfLabel
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.model.load import LoadedModel, load_model
from sevennet_mf.train.continuing import self_label

OPTIONS: dict[str, Any] = {
    'structures': None,
    'per_structure': 2,
    'rattle': 0.05,
    'strain': 0.03,
    'md': None,
}


@pytest.fixture(scope='module')
def two(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A checkpoint of two fidelities whose weights differ."""
    return load_model(str(pretrained(tmp_path_factory.mktemp('two'), NAMES)))


def box() -> Atoms:
    """What is not periodic has no stress."""
    return Atoms('GaN', [[0, 0, 0], [0, 0, 1.9]], cell=[9.0] * 3, pbc=False)


def write(
    folder: Path, loaded: LoadedModel, atoms: list[Atoms], seed: int = 1, **more: Any
) -> dict[str, str]:
    options = SelfLabel.model_validate({**OPTIONS, **more})
    return self_label.write_labelled(folder, loaded, atoms, NAMES, options, seed)


def test_labels_are_what_the_model_predicts(
    two: LoadedModel, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in two.model.state_dict().items()}
    given = [*structures(2), box()]
    paths = write(tmp_path, two, given)
    assert list(paths) == list(NAMES)
    for name, path in paths.items():
        assert len(read(path, ':')) == 9
        entry = {'file': path, 'fidelity': name}
        _, sets = data_of(yaml_of(train=[entry], valid=[]), tmp_path)
        data = sets['trainset']
        found = predict(two.model, data, progress=False, predict_as=name)
        off = (found.energy - found.label_energy) / found.n_atoms
        assert np.abs(off).max() < 1e-6
        for a, b in zip(found.forces, found.label_forces, strict=True):
            np.testing.assert_allclose(a, b, atol=5e-6)
        assert list(data.has['stress']) == [True] * 6 + [False] * 3
        np.testing.assert_allclose(
            found.stress[:6], found.label_stress[:6], atol=2e-6
        )
        assert np.abs(found.label_stress[:6]).max() > 1e-4
    energies = [
        [a.get_potential_energy() for a in read(path, ':')]
        for path in paths.values()
    ]
    assert np.abs(np.subtract(*energies)).min() > 0.1
    after = two.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_each_structure_comes_before_its_copies(
    two: LoadedModel, tmp_path: Path
) -> None:
    given = structures(2)
    paths = write(tmp_path, two, given)
    low, high = (read(path, ':') for path in paths.values())
    for number, atoms in enumerate(low):
        original = given[number // 3]
        assert list(atoms.symbols) == list(original.symbols)
        moved = np.abs(atoms.positions - original.positions).max()
        assert (moved < 1e-6) == (number % 3 == 0)
    for a, b in zip(low, high, strict=True):  # the same structures at each fidelity
        assert np.array_equal(a.positions, b.positions)


def test_a_file_is_used_again_and_named_by_what_it_is_of(
    two: LoadedModel, tmp_path: Path
) -> None:
    given = structures(1)
    first = write(tmp_path, two, given)
    for path in first.values():
        Path(path).write_text('used again')
    assert write(tmp_path, two, given, structures=['elsewhere.xyz']) == first
    assert Path(first['pbe']).read_text() == 'used again'
    others = [
        write(tmp_path, two, given, seed=2),
        write(tmp_path, two, given, rattle=0.04),
        write(tmp_path, two, structures(2)),
    ]
    weight = next(p for p in two.model.parameters() if p.numel()).data.flatten()
    weight[0] += 0.5
    others.append(write(tmp_path, two, given))
    weight[0] -= 0.5
    names = {path for paths in (first, *others) for path in paths.values()}
    assert len(names) == 2 * 5
    assert {Path(name) for name in names} == set(tmp_path.iterdir())


def test_the_same_again_in_another_folder(two: LoadedModel, tmp_path: Path) -> None:
    text = []
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (path, _) = write(tmp_path / name, two, structures(1)).values()
        text.append(Path(path).read_text())
    assert text[0] == text[1]


def test_copies_of_a_dynamics(two: LoadedModel, tmp_path: Path) -> None:
    """They are of one run: each is nearer to the one before than to the start."""
    md = {'temperature': 300.0, 'steps': 3}
    (atoms,) = structures(1)
    more = {'rattle': 0.0, 'strain': 0.0, 'per_structure': 3}
    paths = write(tmp_path, two, [atoms], md=md, **more)
    first, *frames = read(paths['pbe'], ':')
    assert len(frames) == 3
    at = [frame.positions for frame in (first, *frames)]
    from_start = [np.linalg.norm(p - at[0]) for p in at[1:]]
    assert from_start == sorted(from_start)
    assert 1e-3 < from_start[0] < 0.5
    assert all(np.array_equal(f.cell, first.cell) for f in frames)
    still = write(tmp_path, two, [atoms], **more)
    assert still != paths
    without = write(tmp_path, two, [atoms], md=md, per_structure=0)
    assert len(read(without['pbe'], ':')) == 1


def test_vacuum_along_the_first_cell_vector(
    two: LoadedModel, tmp_path: Path
) -> None:
    (atoms,) = structures(1)
    atoms.center(vacuum=4.0, axis=2)
    rows = [2, 0, 1]
    other = atoms.copy()
    other.set_cell(atoms.cell.array[rows])
    atoms.pbc, other.pbc = [True, True, False], [False, True, True]
    md = {'temperature': 300.0, 'steps': 1}
    more = {'rattle': 0.0, 'strain': 0.0, 'per_structure': 1, 'md': md}
    paths = [write(tmp_path, two, [a], **more)['pbe'] for a in (atoms, other)]
    for a, b in zip(*(read(path, ':') for path in paths), strict=True):
        np.testing.assert_allclose(b.positions, a.positions, atol=1e-6)
        assert b.get_potential_energy() == pytest.approx(a.get_potential_energy())
        np.testing.assert_allclose(b.get_forces(), a.get_forces(), atol=1e-5)


def test_a_dynamics_that_falls_apart(
    two: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (atoms,) = structures(1)
    md = {'temperature': 1e9, 'steps': 5}
    words = r'self_label.md: .*N.* falls apart at 1000000000.0 K. Lower the temp'
    # the forces of this model are all small
    monkeypatch.setattr(self_label, 'LARGEST', 1e-9)
    with pytest.raises(UserError, match=words):
        write(tmp_path, two, [atoms], md=md)
    assert not list(tmp_path.iterdir())  # nothing that looks whole is left


def test_elements_that_the_model_lacks(two: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='CH4O: .* know H, C, O, in 1 .*Remove them'):
        write(tmp_path, two, [*structures(1), molecule('CH3OH')])


def test_a_graph_file_has_no_cell(tmp_path: Path) -> None:
    file = str(INGAN / 'pbe_valid.extxyz')
    SevenNetGraphDataset(
        cutoff=4.0, root=str(tmp_path), files=[file], processed_name='graphs.pt'
    )
    made = str(tmp_path / 'sevenn_data' / 'graphs.pt')
    with pytest.raises(UserError, match='graph file has no cell.*that ASE reads'):
        self_label.structures_in([made])
    found = self_label.structures_in([file, file])
    assert len(found) == 72


def test_dynamics_at_another_fidelity_are_other_structures(
    two: LoadedModel, tmp_path: Path
) -> None:
    """A file that is there already is not taken for those of another."""
    options = SelfLabel.model_validate(
        {**OPTIONS, 'md': {'temperature': 300.0, 'steps': 2}}
    )
    paths = [
        self_label.write_labelled(tmp_path, two, structures(1), names, options, 1)
        for names in (NAMES, NAMES[1:])
    ]
    assert paths[0]['r2scan'] != paths[1]['r2scan']
