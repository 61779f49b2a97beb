"""Fisher information: squares of what energies and forces change by."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from helpers import no_derivatives, structures
from pretrained_helpers import pretrained

from sevennet_mf.data import extxyz
from sevennet_mf.deploy.probe import ask
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing.fisher import fisher_information, run

NAME = 'onehot_to_feature_x.linear.weight'


def test_energies_alone_by_finite_differences(tmp_path: Path) -> None:
    loaded = load_model(str(pretrained(tmp_path)))
    atoms = structures(3)
    found = fisher_information(loaded, atoms, force_weight=0.0)
    weight = dict(loaded.model.named_parameters())[NAME]
    place = int(found[NAME].argmax())
    step = 1e-2
    slopes = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            weight[place] += sign * step
        slopes.append(ask(loaded.model, atoms, loaded.cutoff, None).energy)
        with torch.no_grad():
            weight[place] -= sign * step
    n_atoms = [len(a) for a in atoms]
    slope = (slopes[0] - slopes[1]) / (2 * step) / n_atoms
    assert float(found[NAME][place]) == pytest.approx((slope**2).mean(), rel=0.02)


def test_forces_by_all_their_components(tmp_path: Path) -> None:
    """Random signs have the sum over components as their mean."""
    loaded = load_model(str(pretrained(tmp_path)))
    atoms = structures(1)
    weight = dict(loaded.model.named_parameters())[NAME]
    drawn = fisher_information(loaded, atoms, force_weight=1.0, samples=400)
    energy = fisher_information(loaded, atoms, force_weight=0.0)
    place = int((drawn[NAME] - energy[NAME]).argmax())
    step = 1e-2
    forces = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            weight[place] += sign * step
        forces.append(ask(loaded.model, atoms, loaded.cutoff, None).forces)
        with torch.no_grad():
            weight[place] -= sign * step
    slope = (forces[0] - forces[1]) / (2 * step)
    wanted = (slope**2).mean()
    own = float(drawn[NAME][place] - energy[NAME][place])
    assert own == pytest.approx(wanted, rel=0.2)  # 400 draws


def test_a_backend_that_has_no_forces_without_neighbours(tmp_path: Path) -> None:
    loaded = load_model(str(pretrained(tmp_path)))
    loaded.model.get_submodule('force_output').register_forward_hook(no_derivatives)
    found = fisher_information(loaded, [Atoms('N')], force_weight=0.1)
    energy = fisher_information(loaded, [Atoms('N')], force_weight=0.0)
    assert found[NAME].any()
    assert torch.equal(found[NAME], energy[NAME])


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    loaded = load_model(str(pretrained(tmp_path, ('pbe', 'r2scan'))))
    before = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    found = fisher_information(loaded, structures(2), 'r2scan')
    after = loaded.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not loaded.model.training
    assert all((value >= 0).all() for value in found.values())
    own = [name for name in found if name.endswith('.bias.1')]
    others = [name for name in found if name.endswith('.bias.0')]
    assert own
    assert others
    assert any(found[name].any() for name in own)  # theta_T of r2scan acts
    assert not any(found[name].any() for name in others)  # pbe's does not
    with pytest.raises(UserError, match='fidelity is missing: the model has'):
        fisher_information(loaded, structures(1))


def arguments(**more: Any) -> Namespace:
    given = {
        'fidelity': None,
        'force_weight': 0.1,
        'samples': 1,
        'seed': 1,
        'device': 'cpu',
    }
    return Namespace(**{**given, **more})


def test_files_that_sevennet_reads(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    file = tmp_path / 'domain.extxyz'
    extxyz.write(file, structures(2))
    output = tmp_path / 'fisher.pt'
    said = run(
        arguments(checkpoint=str(path), files=[str(file)], output=str(output))
    )
    assert 'from 2 structures' in said
    fisher = torch.load(output, weights_only=True)
    optimum = torch.load(tmp_path / 'fisher_opt_params.pt', weights_only=True)
    weights = dict(load_model(str(path)).model.named_parameters())
    assert fisher.keys() == optimum.keys() <= weights.keys()
    assert all(torch.equal(optimum[name], weights[name]) for name in optimum)
    assert all(math.isfinite(float(value.sum())) for value in fisher.values())
    with pytest.raises(UserError, match=r'--samples must be 1 or more, got 0\.'):
        run(arguments(checkpoint=str(path), files=[], output='x', samples=0))


def test_vacuum_along_the_first_cell_vector(tmp_path: Path) -> None:
    loaded = load_model(str(pretrained(tmp_path)))
    atoms = structures(1)[0]
    atoms.center(vacuum=4.0, axis=2)
    atoms.pbc = [True, True, False]
    other = atoms.copy()
    other.set_cell(atoms.cell.array[[2, 0, 1]])
    other.pbc = [False, True, True]
    wanted = fisher_information(loaded, [atoms])
    found = fisher_information(loaded, [other])
    torch.testing.assert_close(found[NAME], wanted[NAME], rtol=1e-3, atol=1e-8)
