"""A pretrained model's own labels, for structures and copies of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from tqdm import tqdm

from sevennet_mf.arrays import N_SPECIES
from sevennet_mf.calculators.dynamics import langevin
from sevennet_mf.calculators.evaluator import Evaluator
from sevennet_mf.config.blocks import Dynamics, SelfLabel
from sevennet_mf.data import extxyz
from sevennet_mf.data.checks import foreign_elements
from sevennet_mf.data.findings import refuse
from sevennet_mf.data.processed.graphs import composition
from sevennet_mf.data.reading.files import atoms_of
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import LoadedModel
from sevennet_mf.train.continuing import perturb

FRICTION: Final[float] = 0.02  # 1/fs
TIME_STEP: Final[float] = 1.0  # fs
LARGEST: Final[float] = 100.0  # eV/Å: a force that only a broken structure has


def write_labelled(
    folder: Path,
    loaded: LoadedModel,
    structures: Sequence[Atoms],
    fidelities: Sequence[str],
    options: SelfLabel,
    seed: int,
    device: str | torch.device = 'cpu',
) -> dict[str, str]:
    """Write structures and copies with the model's own labels.

    The name of a file is a digest of its input; an existing one is used again.

    Args:
        structures: their own labels are not used.
        fidelities: the model's, which label the same structures.
        options: the block train.fidelity.replay.self_label.

    Returns:
        {fidelity: path}.

    Raises:
        UserError: The model lacks an element, or a copy falls apart.
    """
    check_elements(structures, loaded)
    # molecular dynamics runs at one fidelity, and another gives other copies
    kept = options.model_dump(exclude={'structures'})
    how = [kept, seed, fidelities[0] if options.md else None]
    recipe = _digest(loaded, structures, how)
    paths = {f: folder / f'self_labels_{f}_{recipe}.extxyz' for f in fidelities}
    if all(path.is_file() for path in paths.values()):
        return {f: str(path) for f, path in paths.items()}
    drawn = list(_drawn(loaded, structures, fidelities[0], options, seed, device))
    for fidelity, path in paths.items():
        frames = _labelled(loaded, drawn, fidelity, device)
        extxyz.write(path, frames)
    return {f: str(path) for f, path in paths.items()}


def structures_in(files: Iterable[str]) -> list[Atoms]:
    """Return the structures of files that ASE reads, labelled or not.

    Raises:
        UserError: A file is a SevenNet graph file, which does not keep the cell.
    """
    return [atoms for path in files for _, atoms in atoms_of(path)]


def check_elements(structures: Sequence[Atoms], loaded: LoadedModel) -> None:
    """Raise UserError for an element that the model does not know."""
    counts = np.array([composition(atoms.numbers) for atoms in structures])
    found = foreign_elements(
        [(np.arange(len(structures)), counts.reshape(-1, N_SPECIES))],
        lambda i: structures[i].get_chemical_formula(),
        list(loaded.type_map),
        str(loaded.path),
        'Remove them.',
    )
    refuse(next(found, None))


def _digest(
    loaded: LoadedModel, structures: Sequence[Atoms], how: list[Any]
) -> str:
    digest = hashlib.sha256()
    for name, value in loaded.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    for atoms in structures:
        for array in (atoms.numbers, atoms.positions, atoms.cell, atoms.pbc):
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(json.dumps(how, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def _drawn(
    loaded: LoadedModel,
    structures: Sequence[Atoms],
    fidelity: str,
    options: SelfLabel,
    seed: int,
    device: str | torch.device,
) -> Iterator[Atoms]:
    """Each structure, followed by its copies."""
    n, md = options.per_structure, options.md
    evaluator = Evaluator(loaded, device)
    with evaluator.runner:
        for number, atoms in enumerate(
            tqdm(structures, 'draw copies', disable=None, leave=False, delay=5)
        ):
            rng = np.random.default_rng([seed, number])
            yield perturb.bare(atoms)
            if md is None or n == 0:
                yield from perturb.copies(
                    atoms, n, options.rattle, options.strain, rng
                )
            else:
                (start,) = perturb.copies(
                    atoms, 1, options.rattle, options.strain, rng
                )
                start.calc = _Potential(evaluator, fidelity)
                yield from _dynamics(start, n, md, rng)


class _Potential(Calculator):
    """One fidelity of a model, for molecular dynamics."""

    implemented_properties = ['energy', 'forces']

    def __init__(self, evaluator: Evaluator, fidelity: str) -> None:
        super().__init__()
        self._evaluator, self._fidelity = evaluator, fidelity

    def calculate(self, atoms: Atoms, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        found = self._evaluator.evaluate(atoms, [self._fidelity])
        self.results = found[self._fidelity]


def _dynamics(
    atoms: Atoms, n: int, md: Dynamics, rng: np.random.Generator
) -> Iterator[Atoms]:
    """Structures of a Langevin run at constant volume, every `steps` of 1 fs."""
    temperature = md.temperature
    run = langevin(atoms, temperature, rng, TIME_STEP, FRICTION)
    for _ in range(n):
        try:
            run.run(md.steps)
            largest = np.abs(atoms.get_forces()).max()
        except UserError:  # it no longer has an energy
            largest = np.inf
        if largest >= LARGEST:
            raise UserError(
                f'self_label.md: {atoms.get_chemical_formula()} falls apart at '
                f'{temperature} K. Lower the temperature.'
            )
        yield perturb.bare(atoms)


def _labelled(
    loaded: LoadedModel,
    structures: Sequence[Atoms],
    fidelity: str,
    device: str | torch.device,
) -> Iterator[Atoms]:
    """The structures with the model's energies, forces and, in a cell, stress."""
    evaluator = Evaluator(loaded, device)
    with evaluator.runner:
        for atoms in tqdm(
            structures, 'self labels', disable=None, leave=False, delay=5
        ):
            found = evaluator.evaluate(atoms, [fidelity])[fidelity]
            names = ['energy', 'forces']
            if 'stress' in found and all(atoms.pbc):
                names.append('stress')
            atoms = perturb.bare(atoms)
            results = {name: found[name] for name in names}
            atoms.calc = SinglePointCalculator(atoms, **results)
            yield atoms
