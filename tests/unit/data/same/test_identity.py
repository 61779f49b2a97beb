"""Which writings are of one structure, and which atom is which in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.io import write
from helpers import CUTOFF, rewritten, structure_of, structures
from sevenn.train.graph_dataset import SevenNetGraphDataset

from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.data.same import identity, repeated
from sevennet_mf.data.same.geometry import Geometry, signature
from sevennet_mf.data.same.identity import Reader, Same, Traits, order_between
from sevennet_mf.data.same.match import match
from sevennet_mf.data.same.repeated import identify


def geometry(atoms: Atoms) -> Geometry:
    return Geometry.of(structure_of(atoms))


def recognised(listed: Iterable[Atoms]) -> list[Same]:
    """One after another, and the same all at once."""
    reader, traits = Reader(), []
    found = []
    for atoms in listed:
        found.append(reader.same(structure_of(atoms)))
        traits.append(Traits.of(structure_of(atoms), geometry(atoms)))
    signatures = np.array([one.signature for one in traits])
    whole = identify(
        lambda name: np.array([getattr(one, name) for one in traits]),
        lambda rows: signatures[rows],
        reader.geometry,
    )
    assert whole.marks.tolist() == [same.mark for same in found]
    for order, same in zip(whole.orders, found, strict=True):
        assert (order is None) == (same.order is None)
        assert order is None or (order == same.order).all()
    return found


def wire() -> Atoms:
    atoms = bulk('GaN', 'zincblende', a=4.5, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.pbc = [False, True, False]
    return atoms


def slab() -> Atoms:
    atoms = wire()
    atoms.pbc = [False, True, True]
    return atoms


KINDS: dict[str, Callable[[], Atoms]] = {
    'crystal': lambda: structures(1)[0],
    'slab': slab,
    'wire': wire,
    'molecule': lambda: molecule('CH3CH2OH'),
    'one atom': lambda: bulk('Cu', a=3.6),
}


@pytest.mark.parametrize('noise', [0.0, 1e-5, 9e-4])
@pytest.mark.parametrize('kind', KINDS)
def test_writings_of_one_structure(kind: str, noise: float) -> None:
    first = KINDS[kind]()
    first.set_initial_charges(np.arange(len(first)))  # goes with the atoms
    others = [rewritten(first, seed, noise) for seed in range(8)]
    found = recognised([first, *others])
    assert {same.mark for same in found} == {found[0].mark}
    for same, other in zip(found, [first, *others], strict=True):
        charges = same.in_first_order(other.get_initial_charges())
        assert charges.tolist() == list(range(len(first)))
    back = order_between(found[1].order, found[2].order)
    charges = others[0].get_initial_charges()
    wanted = others[1].get_initial_charges()
    assert (wanted == (charges if back is None else charges[back])).all()


@pytest.mark.parametrize('kind', ['crystal', 'slab', 'wire'])
def test_other_vectors_of_one_lattice(kind: str) -> None:
    """Sheared by whole vectors, in another order; the vacuum may be any."""
    first = KINDS[kind]()
    others = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):
        cell = first.cell.array.copy()
        if kind == 'crystal':
            cell[2] += cell[0] - 2 * cell[1]
        else:
            cell[0] *= 1.7  # vacuum
        if kind == 'slab':
            cell[1] += 2 * cell[2]
        other = first.copy()
        other.set_cell(cell[order])
        other.pbc = first.pbc[order]
        others.append(rewritten(other, 3))
    found = recognised([first, *others])
    assert {same.mark for same in found} == {found[0].mark}


def changed(atoms: Atoms) -> dict[str, Atoms]:
    """Structures that are others."""
    moved, strained, swapped, turned = (atoms.copy() for _ in range(4))
    moved.positions[1, 0] += 5e-3
    strained.set_cell(atoms.cell * 1.002, scale_atoms=True)
    swapped.numbers[[0, 1]] = 31, 49
    turned.rotate(20, 'z', rotate_cell=True)
    mirrored = atoms.copy()
    mirrored.positions[:, 0] *= -1
    mirrored.set_cell(atoms.cell.array * [-1, 1, 1])
    parts = {'larger': atoms * (2, 1, 1), 'fewer directions': atoms.copy()}
    parts['fewer directions'].pbc = [True, True, False]
    return parts | {
        'moved': moved,
        'strained': strained,
        'swapped': swapped,
        'turned': turned,
        'mirrored': mirrored,
    }


def test_other_structures() -> None:
    first = next(a for a in structures(60) if set(a.numbers[:2]) != {31, 49})
    listed = {'first': first, **changed(first)}
    found = recognised(listed.values())
    marks = [same.mark for same in found]
    assert len(set(marks)) == len(marks), dict(zip(listed, marks, strict=True))
    # the match alone tells them from each other, whatever finds candidates
    for name, other in changed(first).items():
        assert match(geometry(first), geometry(other)) is None, name


def test_a_turned_molecule_is_another() -> None:
    first = molecule('H2O')
    turned = first.copy()
    turned.rotate(30, 'x')
    assert recognised([first])[0].mark != recognised([first, turned])[1].mark


def test_what_lies_between_two_rounded_numbers() -> None:
    """Half of such crystals were taken for others, though equal to 1e-8 Å."""
    listed = []
    for k in range(24):
        atoms = bulk('GaN', 'zincblende', a=4.45 + 0.01 * k, cubic=True)
        other = atoms.copy()
        other.positions += 1e-8 * np.sin(np.arange(24)).reshape(8, 3)
        listed += [atoms, other]
    marks = [same.mark for same in recognised(listed)]
    assert marks[::2] == marks[1::2]
    assert len(set(marks)) == 24


@pytest.mark.parametrize('rattle', [0.0, 2e-4, 0.05])
def test_forces_go_with_the_atoms_whatever_the_symmetry(rattle: float) -> None:
    """Translations that map a crystal on itself lead to the forces of its atoms."""
    first = bulk('NaCl', 'rocksalt', a=5.6, cubic=True).repeat((2, 1, 1))
    first.rattle(rattle, seed=2)
    moved = bulk('NaCl', 'rocksalt', a=5.6, cubic=True)
    moved.rattle(0.1, seed=3)  # repeats within the cell
    for atoms in (first, moved.repeat((2, 1, 1))):
        atoms.calc = LennardJones(sigma=2.5, rc=6.0)
        other = rewritten(atoms.copy(), 4)
        other.calc = LennardJones(sigma=2.5, rc=6.0)
        one, same = recognised([atoms, other])
        assert one.mark == same.mark
        forces = same.in_first_order(other.get_forces())
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-7)


def test_the_nearest_of_several() -> None:
    """Steps of a relaxation that hardly moves: each goes to its own, if it can."""
    atoms = structures(1)[0]
    steps = []
    for k in range(4):
        step = atoms.copy()
        step.positions[0, 0] += 3e-4 * k
        steps.append(geometry(step))
    own = rewritten(atoms, 1)
    assert identity.nearest(geometry(own), steps) == 0
    later = atoms.copy()
    later.positions[0, 0] += 6e-4
    assert identity.nearest(geometry(rewritten(later, 2)), steps) == 2


def test_structures_that_are_written_alike() -> None:
    """The digest of the writing is one; the structures are two."""
    first = Atoms('He', cell=[4.0, 4.0, 4.0], pbc=True)
    other = first.copy()
    other.pbc = False
    digests = {identity.digest(structure_of(a)) for a in (first, other)}
    assert len(digests) == 1
    again = recognised([first, other, first, other])
    marks = [same.mark for same in again]
    assert marks[:2] == marks[2:]
    assert marks[0] != marks[1]


@pytest.mark.parametrize('kind', KINDS)
def test_signatures_hardly_move(kind: str) -> None:
    first = KINDS[kind]()
    wanted = signature(geometry(first))
    for seed in range(10):
        other = signature(geometry(rewritten(first, seed, 1e-3)))
        assert np.abs(other - wanted).max() < identity.WINDOW


def test_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one cell at many times, none is compared with all others."""
    counts = {identity: 0, repeated: 0}
    for module in counts:

        def counted(
            one: Geometry, other: Geometry, module: ModuleType = module
        ) -> object:
            counts[module] += 1
            return match(one, other)

        monkeypatch.setattr(module, 'match', counted)
    cell = bulk('GaN', 'zincblende', a=4.5, cubic=True)
    frames = []
    for seed in range(300):
        atoms = cell.copy()
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    found = recognised([*frames, *(rewritten(a, k) for k, a in enumerate(frames))])
    marks = [same.mark for same in found]
    assert marks[:300] == marks[300:]
    assert len(set(marks)) == 300
    # and each of the second half with its own
    assert max(counts.values()) < 330


def test_more_than_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, 'IN_MEMORY', 100)
    frames = structures(6)
    found = recognised([*frames, *(rewritten(a, 1) for a in frames)])
    marks = [same.mark for same in found]
    assert marks[:6] == marks[6:]


def test_many_atoms_and_a_cell_that_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many atoms, only pairs that are near are looked at."""
    atoms = bulk('Cu', cubic=True, a=3.7).repeat((1, 1, 30))
    atoms.rattle(0.1, seed=1)
    assert len(atoms) > 100
    one, other = recognised([atoms, rewritten(atoms, 2, 5e-4)])
    assert one.mark == other.mark
    wanted = signature(geometry(atoms))
    monkeypatch.setattr('sevennet_mf.data.same.geometry.DENSE', 1000)
    np.testing.assert_allclose(signature(geometry(atoms)), wanted, atol=1e-3)


def test_graphs_of_the_host(tmp_path: Path) -> None:
    """They keep no cell, but their edges tell."""
    frames = structures(3)
    write(tmp_path / 'a.extxyz', frames)
    SevenNetGraphDataset(
        cutoff=CUTOFF,
        root=str(tmp_path),
        files=[str(tmp_path / 'a.extxyz')],
        processed_name='graphs.pt',
    )
    entry = {'file': [str(tmp_path / 'sevenn_data' / 'graphs.pt')], 'fidelity': 'a'}
    graphs = list(read_entry(entry, None, ['a'], CUTOFF))
    reader = Reader()
    marks = [reader.same(graph).mark for graph in graphs]
    assert len(set(marks)) == 3
    assert [reader.same(structure_of(rewritten(a, 1))).mark for a in frames] == marks
