"""The calculator for ASE: against the host's, finite differences, and misuse."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import (
    calculate_numerical_forces,
    calculate_numerical_stress,
)
from ase.data import atomic_numbers
from helpers import (
    CUTOFF,
    ENCODINGS,
    ase_keeps_all,
    build,
    randomise,
    save_checkpoint,
    structures,
    to_double,
    trained,
)
from sevenn.calculator import SevenNetCalculator

import sevennet_mf
from sevennet_mf.calculators import evaluator
from sevennet_mf.calculators.fidelity import FidelityCalculator
from sevennet_mf.deploy.export import export
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import UNNAMED

THREE = ('pbe', 'r2scan', 'hse')
MIXTURE = {'pbe': 0.3, 'r2scan': 0.7}
QUANTITIES = ('energy', 'free_energy', 'energies', 'forces', 'stress')


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A small model by encoding, 'three' with three fidelities, 'one' with one."""
    folder = tmp_path_factory.mktemp('checkpoints')
    kinds: dict[str, tuple] = {e: (e,) for e in ENCODINGS}
    kinds |= {'three': ('bias', THREE), 'one': ('bias', ('pbe',))}
    return {
        kind: save_checkpoint(folder / f'{kind}.pth', *trained(*how))
        for kind, how in kinds.items()
    }


@pytest.fixture
def path(checkpoints: Mapping[str, Path]) -> Path:
    return checkpoints['bias']


def calculator(
    path: Path | str, fidelity: Any = None, double: bool = False
) -> FidelityCalculator:
    found = FidelityCalculator(path, fidelity, device='cpu')
    if double:
        to_double(found._evaluator.runner.model)
    return found


@pytest.fixture(scope='module')
def shared(checkpoints: Mapping[str, Path]) -> Callable[..., FidelityCalculator]:
    """`shared(kind, fidelity, double)`: as `calculator`, but made only once."""
    made: dict[tuple[str, bool], FidelityCalculator] = {}

    def get(kind: str, fidelity: Any, double: bool = False) -> FidelityCalculator:
        if (kind, double) not in made:
            made[kind, double] = calculator(checkpoints[kind], fidelity, double)
        made[kind, double].fidelity = fidelity
        return made[kind, double]

    return get


def cell() -> Atoms:
    """A real rattled In(x)Ga(1-x)N cell without labels."""
    (atoms,) = structures(1)
    atoms.calc = None
    return atoms


def molecule(molecules: Path) -> Atoms:
    atoms = ase.io.read(molecules / 'ccsdt_test.extxyz', 0)
    atoms.calc = None
    return atoms


def count_runs(found: FidelityCalculator) -> list[int]:
    """The number of graphs in each run of the model, from now on."""
    runs: list[int] = []
    found._evaluator.runner.model.register_forward_pre_hook(
        lambda module, inputs: runs.append(len(inputs[0][KEY.NUM_ATOMS]))
    )
    return runs


# ---- the same as the host, the same as ourselves


@pytest.mark.parametrize(
    ('name', 'modal'),
    [('7net-0', None), ('7net-mf-0', 'PBE'), ('7net-mf-0', 'R2SCAN')],
)
def test_as_the_calculator_of_the_host(name: str, modal: str | None) -> None:
    host = SevenNetCalculator(name, modal=modal, device='cpu')
    own = FidelityCalculator(name, modal, device='cpu')
    vacuum = Atoms('OH2', [[0, 0, 0], [0.8, 0.6, 0], [-0.8, 0.6, 0]])
    slab = Atoms('GaN', [[0, 0, 0], [1, 1, 1.6]], cell=[3.2, 3.2, 20], pbc=(1, 1, 0))
    for atoms in (cell(), vacuum, slab):
        found = {}
        for calc in (host, own):
            atoms.calc = calc
            atoms.get_forces()
            found[calc] = dict(calc.results)
        a, b = found[own], found[host]
        # float32 totals of -50 eV have a grain of 4e-6 eV
        assert a['energy'] == pytest.approx(b['energy'], abs=2e-5)
        assert a['free_energy'] == a['energy']
        np.testing.assert_allclose(a['energies'], b['energies'], atol=5e-6)
        np.testing.assert_allclose(a['forces'], b['forces'], atol=1e-5)
        if atoms is not vacuum:
            np.testing.assert_allclose(a['stress'], b['stress'], atol=1e-6)


@pytest.mark.parametrize('kind', [*ENCODINGS, 'three'])
def test_a_mixture_is_the_sum_of_its_parts(
    kind: str,
    checkpoints: Mapping[str, Path],
    shared: Callable[..., FidelityCalculator],
) -> None:
    weights = {'pbe': 0.3, 'r2scan': 0.7}
    if kind == 'three':
        weights = {'hse': 1.5, 'pbe': -0.75, 'r2scan': 0.25}
    mixed = calculator(checkpoints[kind], weights)
    atoms = cell()
    parts = {}
    for name in weights:
        alone = shared(kind, name)
        alone.get_forces(atoms)
        parts[name] = alone.results
    runs = count_runs(mixed)
    for quantity in QUANTITIES:
        found = mixed.get_property(quantity, atoms)
        wanted = sum(w * parts[name][quantity] for name, w in weights.items())
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=quantity)
    assert runs == [len(weights)]
    # the parts differ, so that weights matter
    energies = {name: part['energy'] for name, part in parts.items()}
    assert np.ptp(list(energies.values())) > 0.1
    slopes = mixed.get_denergy_dweights(atoms)
    assert slopes == pytest.approx(energies, abs=1e-5)
    assert list(slopes) == list(weights)


@pytest.mark.parametrize('kind', [*ENCODINGS, 'three', 'one'])
def test_all_fidelities_from_one_list_in_one_batch(
    kind: str,
    checkpoints: Mapping[str, Path],
    shared: Callable[..., FidelityCalculator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {'three': THREE, 'one': (UNNAMED,)}.get(kind, THREE[:2])
    several = kind != 'one'
    found = calculator(checkpoints[kind], names[-1] if several else None)
    atoms = cell()
    runs, lists = count_runs(found), []
    build_list = evaluator.host_graph

    def counted(*args: Any, **kwargs: Any) -> Any:
        lists.append(1)
        return build_list(*args, **kwargs)

    monkeypatch.setattr(evaluator, 'host_graph', counted)
    everything = found.all_fidelities(atoms)
    assert (runs, len(lists)) == ([len(names)], 1)
    assert tuple(everything) == found.fidelities == names
    # many at once would be slow on a CPU: cut into parts, nothing changes
    found._evaluator.edges_at_once = 1
    parts = found.all_fidelities(atoms)
    assert (runs, len(lists)) == ([len(names), *[1] * len(names)], 2)
    for name in names:
        alone = shared(kind, name if several else None)
        for quantity in QUANTITIES:
            wanted = alone.get_property(quantity, atoms)
            for result in (everything, parts):
                np.testing.assert_allclose(
                    result[name][quantity], wanted, atol=1e-5, err_msg=quantity
                )


@pytest.mark.parametrize('accelerated', [False, True])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_exported_files_give_the_same(
    encoding: str,
    accelerated: bool,
    checkpoints: Mapping[str, Path],
    shared: Callable[..., FidelityCalculator],
    tmp_path: Path,
) -> None:
    source = str(checkpoints[encoding])
    file, _ = export(source, str(tmp_path / 'a.pth'), 'r2scan', None, accelerated)
    # a plain file has this one only
    alone = calculator(file, 'r2scan' if accelerated else None)
    assert alone.fidelity == 'r2scan'
    whole = shared(encoding, 'r2scan')
    atoms = cell()
    for quantity in QUANTITIES:
        found = alone.get_property(quantity, atoms)
        wanted = whole.get_property(quantity, atoms)
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=quantity)


# ---- derivatives


FIDELITIES = ['pbe', 'r2scan', MIXTURE]


@pytest.mark.parametrize('fidelity', FIDELITIES, ids=str)
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_forces_and_stress_are_derivatives(
    encoding: str, fidelity: Any, shared: Callable[..., FidelityCalculator]
) -> None:
    atoms = cell()
    atoms.calc = shared(encoding, fidelity, double=True)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(forces).max() > 0.02
    assert np.abs(stress).min() > 1e-6
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 3])
    np.testing.assert_allclose(forces[[0, 3]], numerical, atol=1e-6)
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(stress, numerical, atol=1e-7)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_derivative_by_lambda(
    encoding: str, shared: Callable[..., FidelityCalculator]
) -> None:
    found = shared(encoding, {'pbe': 1.0, 'r2scan': 0.0}, double=True)
    atoms = cell()
    ends = found.all_fidelities(atoms)
    difference = ends['r2scan']['energy'] - ends['pbe']['energy']
    energies = {}
    for x in (0.0, 0.25, 0.75, 1.0):
        found.fidelity = {'pbe': 1 - x, 'r2scan': x}
        energies[x] = found.get_potential_energy(atoms)
        assert found.get_denergy_dlambda(atoms) == pytest.approx(difference)
        assert found.results['denergy_dlambda'] == pytest.approx(difference)
    slope = (energies[0.75] - energies[0.25]) / 0.5
    assert slope == pytest.approx(difference)
    assert energies[0.0] == pytest.approx(ends['pbe']['energy'])
    assert energies[1.0] == pytest.approx(ends['r2scan']['energy'])
    # lambda is the weight of the one that is named second
    found.fidelity = {'r2scan': 0.5, 'pbe': 0.5}
    assert found.get_denergy_dlambda(atoms) == pytest.approx(-difference)
    found.fidelity = 'r2scan'
    (slope,) = found.get_denergy_dweights(atoms).values()
    assert slope == pytest.approx(energies[1.0])
    with pytest.raises(UserError, match='mixture of two fidelities, .* has r2scan'):
        found.get_denergy_dlambda(atoms)


def test_energies_of_atoms_add_up(
    shared: Callable[..., FidelityCalculator],
) -> None:
    atoms = cell()
    atoms.calc = shared('bias', MIXTURE)
    energies = atoms.get_potential_energies()
    assert energies.shape == (len(atoms),)
    assert energies.sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


def test_all_electron_energies_lose_nothing(molecules: Path, tmp_path: Path) -> None:
    """Totals near -4000 eV, whose float32 grain is 2e-4 eV (trap 21)."""
    names = ('pbe', 'ccsdt')
    _, config = trained(names=names, chemical_species=['C', 'H', 'N', 'O'])
    atomic = {'C': -1030.123, 'H': -13.456, 'N': -1485.789, 'O': -2041.321}
    univ = np.zeros(119)
    for symbol, energy in atomic.items():
        univ[atomic_numbers[symbol]] = energy
    config[KEY.SHIFT] = {n: (univ - i).tolist() for i, n in enumerate(names)}
    model = build(config)
    randomise(model)
    file = save_checkpoint(tmp_path / 'model.pth', model, config)
    atoms = molecule(molecules)
    exact = calculator(file, 'ccsdt', double=True).get_potential_energy(atoms)
    assert exact < -4000
    energy = calculator(file, 'ccsdt').get_potential_energy(atoms)
    assert energy == pytest.approx(exact, abs=5e-6, rel=0)
    host = SevenNetCalculator(str(file), modal='ccsdt', device='cpu')
    assert abs(host.get_potential_energy(atoms) - exact) > 5e-5  # this can fail
    assert exact == pytest.approx(host.get_potential_energy(atoms), abs=0.01)


# ---- structures of every kind


def test_molecule_far_from_the_origin(molecules: Path, tmp_path: Path) -> None:
    parts = trained(chemical_species=['C', 'H', 'N', 'O'])
    found = calculator(save_checkpoint(tmp_path / 'm.pth', *parts), 'r2scan')
    atoms = molecule(molecules)
    energy, forces = found.get_potential_energy(atoms), found.get_forces(atoms)
    assert np.abs(forces.sum(axis=0)).max() < 1e-4
    atoms.positions += [3000, 0, -2000]
    assert found.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-4)
    before = atoms.positions.copy()
    with pytest.raises(PropertyNotImplementedError, match='has no volume'):
        found.get_stress(atoms)
    assert 'stress' not in found.all_fidelities(atoms)['pbe']
    assert np.array_equal(atoms.positions, before)
    assert not atoms.cell.array.any()
    found.get_forces(atoms)


def test_atoms_without_neighbours(
    shared: Callable[..., FidelityCalculator],
) -> None:
    found = shared('bias', MIXTURE)
    alone = Atoms('N')
    energy = found.get_potential_energy(alone)
    assert found.get_forces(alone).tolist() == [[0, 0, 0]]
    boxed = Atoms('N', cell=[20, 20, 20], pbc=True)
    assert found.get_potential_energy(boxed) == pytest.approx(energy)
    assert found.get_stress(boxed).tolist() == [0] * 6
    apart = Atoms('N2', [[0, 0, 0], [0, 0, CUTOFF + 0.1]])
    assert found.get_potential_energy(apart) == pytest.approx(2 * energy)
    assert not found.get_forces(apart).any()
    # a pair, and an atom that has no part in it
    third = Atoms('N3', [[0, 0, 0], [0, 0, 1.5], [0, 0, 30]])
    assert found.get_potential_energies(third)[2] == pytest.approx(energy)
    assert np.abs(found.get_forces(third)[:2]).max() > 0.01
    assert not found.get_forces(third)[2].any()


def test_small_and_large_cells_agree(
    shared: Callable[..., FidelityCalculator],
) -> None:
    found = shared('bias', 'r2scan')
    small = Atoms('GaN', [[0, 0, 0], [1, 1.2, 1.4]], cell=[2.5, 2.6, 2.7], pbc=True)
    large = small * (3, 3, 3)
    energy = found.get_potential_energy(small)
    stress = found.get_stress(small)
    assert found.get_potential_energy(large) == pytest.approx(27 * energy, abs=1e-3)
    np.testing.assert_allclose(found.get_stress(large), stress, atol=1e-5)


def test_axes_of_a_slab_in_any_order(
    shared: Callable[..., FidelityCalculator],
) -> None:
    """Along which cell vector nothing repeats must not matter."""
    found = shared('bias', 'r2scan')
    positions = np.array([[0.0, 0.1, 0.3], [1.5, 1.2, 1.9], [0.2, 1.4, 3.4]])
    rows = np.array([[3.0, 0, 0], [0.4, 3.3, 0], [0, 0, 9.0]])
    pbc = np.array([True, True, False])
    slab = Atoms('GaNN', positions, cell=rows, pbc=pbc)
    energy, stress = found.get_potential_energy(slab), found.get_stress(slab)
    assert np.abs(stress[:2]).min() > 1e-4
    for order in ([1, 0, 2], [0, 2, 1], [2, 0, 1], [1, 2, 0]):
        other = Atoms('GaNN', positions, cell=rows[order], pbc=pbc[order])
        assert found.get_potential_energy(other) == pytest.approx(energy, abs=1e-5)
        np.testing.assert_allclose(found.get_stress(other), stress, atol=1e-6)
    slab.cell[2] = 0
    assert found.get_potential_energy(slab) == pytest.approx(energy, abs=1e-5)
    with pytest.raises(PropertyNotImplementedError, match='has no volume'):
        found.get_stress(slab)


def test_structures_that_have_no_energy(
    shared: Callable[..., FidelityCalculator],
) -> None:
    found = shared('bias', 'r2scan')
    atoms = cell()
    energy = found.get_potential_energy(atoms)
    lost = atoms.copy()
    lost.positions[2, 1] = np.nan
    wrong = {
        'does not know O, Al; it knows N, Ga, In': Atoms('AlONAl', np.eye(4)[:, :3]),
        'has no atoms': Atoms(),
        r'positions or cell .* not finite': lost,
        'repeats along 3 axes, .* set pbc=False': Atoms('N', pbc=True),
        r'closest atoms, N\(0\) and N\(1\), are 0.000 Å': Atoms('N2'),
    }
    for message, structure in wrong.items():
        with pytest.raises(UserError, match=message):
            found.get_potential_energy(structure)
        with pytest.raises(UserError, match=message):
            found.all_fidelities(structure)
        assert found.results == {}  # nothing of the structure before
    assert found.get_potential_energy(atoms) == energy


def test_atoms_change_between_calls(path: Path) -> None:
    found = calculator(path, 'r2scan')
    first, second = structures(2)
    assert found.get_forces(first).shape == (len(first), 3)
    del second[0]
    fresh = calculator(path, 'r2scan')
    for atoms in (second, first, second):
        wanted = fresh.get_forces(atoms)
        np.testing.assert_allclose(found.get_forces(atoms), wanted, atol=1e-6)
    first.set_cell(first.cell * 1.02, scale_atoms=True)
    assert found.get_stress(first)[0] != fresh.get_stress(second)[0]


# ---- as ASE wants it


def test_nothing_is_computed_twice(path: Path) -> None:
    atoms = cell()
    atoms.calc = found = calculator(path, 'r2scan')
    runs = count_runs(found)
    atoms.get_potential_energy()
    atoms.get_forces()[:] = 0  # a copy
    atoms.get_stress()
    atoms.set_initial_charges([1.0] * len(atoms))
    assert np.abs(atoms.get_forces()).max() > 0.01
    assert found.get_potential_energy() == atoms.get_potential_energy()
    assert len(runs) == 1
    assert found.fidelity == 'r2scan'
    found.all_fidelities()  # of the same atoms
    assert runs == [1, 2]
    atoms.positions[0, 0] += 0.01
    atoms.get_forces()
    assert len(runs) == 3
    before = atoms.get_potential_energy()
    found.set(fidelity=MIXTURE)
    assert abs(atoms.get_potential_energy() - before) > 0.01
    assert runs == [1, 2, 1, 2]


def test_what_ase_writes(path: Path, tmp_path: Path) -> None:
    atoms = cell()
    atoms.calc = found = calculator(path, MIXTURE)
    energy = atoms.get_potential_energy()
    for name in ('a.extxyz', 'a.traj'):
        ase.io.write(tmp_path / name, atoms)
        read = ase.io.read(tmp_path / name)
        assert read.get_potential_energy() == pytest.approx(energy)
        np.testing.assert_allclose(read.get_stress(), atoms.get_stress(), atol=1e-8)
    assert found.todict() == {'checkpoint': str(path), 'fidelity': MIXTURE}
    found.fidelity = 'pbe'
    assert found.todict()['fidelity'] == 'pbe'


@pytest.mark.parametrize('fidelity', FIDELITIES, ids=str)
def test_what_ase_keeps(
    fidelity: Any, shared: Callable[..., FidelityCalculator]
) -> None:
    atoms = cell()
    atoms.calc = found = shared('bias', fidelity)
    ase_keeps_all(atoms, QUANTITIES)
    assert set(found.results) == set(QUANTITIES)


def test_further_results_are_found_where_they_were(
    shared: Callable[..., FidelityCalculator],
) -> None:
    atoms = cell()
    found = shared('bias', MIXTURE)
    slope = found.get_denergy_dlambda(atoms)
    for results in (found.results, copy.deepcopy(found.results)):
        assert results['denergy_dlambda'] == results.get('denergy_dlambda') == slope
        assert results['denergy_dweights'] == found.get_denergy_dweights(atoms)
        assert 'denergy_dweights' in results
        assert len(results) == len(QUANTITIES)
        assert results.get('dipole') is None
        assert 'dipole' not in results
        with pytest.raises(KeyError, match='dipole'):
            results['dipole']
    found.fidelity = 'pbe'
    found.get_potential_energy(atoms)
    assert 'denergy_dlambda' not in found.results


def test_it_can_be_sent_to_another_process(path: Path) -> None:
    found = calculator(path, MIXTURE)
    other = pickle.loads(pickle.dumps(found))
    assert other.fidelity == MIXTURE
    atoms = cell()
    assert other.get_potential_energy(atoms) == found.get_potential_energy(atoms)


def test_with_gradients_turned_off(
    shared: Callable[..., FidelityCalculator],
) -> None:
    atoms = cell()
    atoms.calc = shared('bias', 'pbe')
    with torch.no_grad():
        forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.01


def test_the_package_offers_it() -> None:
    assert sevennet_mf.FidelityCalculator is FidelityCalculator
    with pytest.raises(AttributeError, match="no attribute 'Calculator'"):
        sevennet_mf.Calculator  # noqa: B018


def test_one_fidelity_may_be_left_out(checkpoints: Mapping[str, Path]) -> None:
    found = calculator(checkpoints['one'])
    assert len(found.fidelities) == 1
    atoms = cell()
    energy = found.get_potential_energy(atoms)
    (only,) = found.all_fidelities(atoms).values()
    assert only['energy'] == pytest.approx(energy)


# ---- misuse


@pytest.mark.parametrize(
    ('fidelity', 'message'),
    [
        (None, r"has the fidelities \['pbe', 'r2scan'\]; choose one"),
        ('R2scan', "must be one of .* got 'R2scan'. Did you mean 'r2scan'"),
        ('common', 'sevennet-mf export --fidelity common'),
        ({'pbe': 0.5, 'r2scna': 0.5}, "got 'r2scna'. Did you mean 'r2scan'"),
        ({'pbe': 0.5, 'r2scan': 0.4}, 'sum to 0.9, not to 1'),
        ({'pbe': 'half', 'r2scan': 0.5}, "weight of fidelity 'pbe'.* got 'half'"),
        ({'pbe': float('nan'), 'r2scan': 1.0}, "'pbe' must be a number, got nan"),
        ({'pbe': float('inf'), 'r2scan': 1.0}, "'pbe' must be a number, got inf"),
        ({}, 'must be a name or weights by name'),
        (['pbe', 'r2scan'], 'must be a name or weights by name'),
    ],
)
def test_fidelities_that_cannot_be(
    shared: Callable[..., FidelityCalculator], fidelity: Any, message: str
) -> None:
    found = shared('bias', 'pbe')
    with pytest.raises(UserError, match=message):
        found.fidelity = fidelity
    assert found.fidelity == 'pbe'
    with pytest.raises(UserError, match=message):
        found.set(fidelity=fidelity)


def test_other_misuse(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="single fidelity, without a name, got 'p"):
        calculator('7net-0', 'pbe')
    with pytest.raises(UserError, match=r"fidelities \['pbe', 'r2scan'\]; choose"):
        calculator(path)
    with pytest.raises(UserError, match='no such file'):
        calculator(tmp_path / 'none.pth')
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used"):
        FidelityCalculator(path, 'pbe', device='cuda:99')
    with pytest.raises(TypeError, match='modal'):
        FidelityCalculator(path, modal='pbe')  # type: ignore[call-arg]
    found = calculator(path, 'pbe')
    with pytest.raises(UserError, match='device of a FidelityCalculator cannot'):
        found.set(device='cpu')
    with pytest.raises(UserError, match='no structure yet'):
        found.all_fidelities()
    with pytest.raises(UserError, match='no structure yet'):
        found.get_potential_energy()


@pytest.mark.parametrize('flag', ['enable_cueq', 'enable_flash', 'enable_oeq'])
def test_an_accelerator_that_is_missing(path: Path, flag: str) -> None:
    if torch.cuda.is_available():
        pytest.skip('it may be there')
    with pytest.raises(UserError, match='requested, but it is not installed here'):
        FidelityCalculator(path, 'pbe', **{flag: True})


@pytest.mark.parametrize('exported', [False, True])
def test_an_element_that_nobody_labelled_is_told_once(
    exported: bool, tmp_path: Path
) -> None:
    """Yb at r2SCAN in SevenNet's own file, and in what was made of it."""
    name, fidelity = '7net-mf-0', 'R2SCAN'
    if exported:
        name, _ = export(name, str(tmp_path / 'a.pth'), fidelity)
        name, _ = export(name, str(tmp_path / 'b.pth'))  # and of that
    atoms = Atoms('Yb2', [[0, 0, 0], [0, 0, 3.8]])
    atoms.calc = FidelityCalculator(name, fidelity, device='cpu')
    with pytest.warns(UserWarning, match='Yb: its reference energy is 0 at R2SCAN'):
        atoms.get_potential_energy()
    atoms.rattle(0.01)
    atoms.get_potential_energy()  # a second warning would be an error


@pytest.mark.parametrize('name', ['modal', 'modality'])
def test_what_sevennet_calls_a_fidelity(name: str) -> None:
    with pytest.raises(TypeError, match=rf"'{name}'\. Use fidelity='R2SCAN'"):
        FidelityCalculator('7net-mf-0', **{name: 'R2SCAN'})
