"""Node features, energies and forces of a model at one fidelity."""

from pathlib import Path

import numpy as np
import pytest
import sevenn._keys as KEY
from ase import Atoms
from helpers import evaluate, save_checkpoint, structures, trained

from sevennet_mf.data.reading.read import Structure
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model
from sevennet_mf.select.network import Network, Predicted, batch_edges


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two fidelities; all sites, so that features depend on which."""
    sites = ['self_interaction_1', 'self_interaction_2', 'output']
    model, config = trained(fidelity={'sites': sites})
    folder = tmp_path_factory.mktemp('network')
    return str(save_checkpoint(folder / 'checkpoint.pth', model, config))


def as_structure(atoms: Atoms) -> Structure:
    return Structure(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        atoms=atoms,
        graph=None,
        fidelity='',
        energy=np.nan,
        forces=None,
        stress=None,
        source='a:0',
        file=0,
        frame=0,
    )


def ask(
    checkpoint: str,
    atoms: list[Atoms],
    fidelity: str = 'r2scan',
    forces: bool = False,
) -> Predicted:
    network = Network(load_model(checkpoint), fidelity, 'cpu')
    given = [as_structure(a) for a in atoms]
    return network(given, batch_edges(given, network.cutoff), forces)


def test_features_are_what_the_readout_is_given(checkpoint: str) -> None:
    loaded = load_model(checkpoint)
    (readout,) = (
        m for n, m in loaded.model.named_children() if n == 'reduce_input_to_hidden'
    )
    seen = []
    readout.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][KEY.NODE_FEATURE].clone())
    )
    atoms = structures(2)
    evaluate(loaded.model, atoms, ['r2scan'] * 2)
    features = ask(checkpoint, atoms).features
    assert features.shape == (sum(map(len, atoms)), 4)  # channels
    np.testing.assert_allclose(features, seen[0].detach().numpy(), atol=1e-6)


def test_features_do_not_depend_on_how_a_structure_is_written(
    checkpoint: str,
) -> None:
    (atoms,) = structures(1)
    other = atoms.copy()
    other.rotate(40.0, (1, 2, 3), rotate_cell=True)
    other.positions += 0.3
    other = other[::-1]
    features = ask(checkpoint, [atoms, other]).features
    first, second = features[: len(atoms)], features[len(atoms) :]
    assert np.abs(first).max() > 0.01
    np.testing.assert_allclose(second[::-1], first, atol=1e-5)


def test_features_are_of_the_fidelity_that_was_asked(checkpoint: str) -> None:
    atoms = structures(1)
    pbe = ask(checkpoint, atoms, 'pbe').features
    assert np.abs(pbe - ask(checkpoint, atoms, 'r2scan').features).max() > 1e-3


def test_energies_and_forces_are_those_of_the_model(checkpoint: str) -> None:
    atoms = structures(3)
    wanted = evaluate(load_model(checkpoint).model, atoms, ['pbe'] * 3)
    found = ask(checkpoint, atoms, 'pbe', forces=True)
    assert found.energy is not None
    assert found.forces is not None
    np.testing.assert_allclose(found.energy, wanted['energy'], atol=1e-4)
    np.testing.assert_allclose(found.forces, wanted['forces'], atol=1e-5)
    alone = ask(checkpoint, atoms, 'pbe').features
    np.testing.assert_allclose(found.features, alone, atol=1e-6)


def test_molecules_and_lone_atoms_have_features(checkpoint: str) -> None:
    pair = Atoms('GaN', positions=[[50.0, 0, 0], [51.8, 0, 0]])
    found = ask(checkpoint, [pair, Atoms('N')], forces=True)
    assert found.features.shape == (3, 4)
    lone = ask(checkpoint, [Atoms('N')], forces=True)
    assert lone.forces is not None
    assert not lone.forces.any()


def test_a_fidelity_must_be_one_that_the_model_has(checkpoint: str) -> None:
    with pytest.raises(UserError, match=r"\['pbe', 'r2scan'\]: select one with"):
        Network(load_model(checkpoint), None, 'cpu')
    with pytest.raises(UserError, match=r"got 'r2scn'. Did you mean 'r2scan'\?"):
        Network(load_model(checkpoint), 'r2scn', 'cpu')


def test_a_plain_model_is_taken_at_any_fidelity(tmp_path: Path) -> None:
    model, config = trained(names=('pbe',))
    path = str(save_checkpoint(tmp_path / 'plain.pth', model, config))
    assert ask(path, structures(1), 'r2scan').features.shape[1] == 4


def test_overlapping_atoms_are_named(checkpoint: str) -> None:
    (atoms,) = structures(1)
    atoms.positions[1] = atoms.positions[0] + 0.05
    with pytest.raises(UserError, match=r'a:0: atoms .* apart, closer than'):
        ask(checkpoint, [atoms])


def test_what_is_not_a_number_is_named(tmp_path: Path) -> None:
    model, config = trained()
    model.get_parameter('onehot_to_feature_x.linear.weight').data[0] = float('nan')
    path = str(save_checkpoint(tmp_path / 'nan.pth', model, config))
    with pytest.raises(UserError, match="a:0: the model's prediction for it is not"):
        ask(path, structures(1))
