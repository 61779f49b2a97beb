"""Formation energies and energies above the convex hull, through pymatgen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from sevennet_mf.errors import UserError

STABLE = 1e-8  # eV/atom above the hull; less is rounding


@dataclass(frozen=True)
class Phase:
    """One structure in a phase diagram; energies in eV/atom.

    Attributes:
        name: As given.
        formula: Reduced, `'TiO2'`.
        fractions: Of the atoms, by element.
        energy: The total energy.
        formation_energy: Relative to the elements; see `energies_above_hull`.
        above_hull: 0 on the hull, positive above it.
        decays_to: The phases on the hull below it, by name, with their shares of the
            atoms: itself if it is stable.
        reference_of: The element it is the reference of, or ''.
    """

    name: str
    formula: str
    fractions: dict[str, float]
    energy: float
    formation_energy: float
    above_hull: float
    decays_to: dict[str, float]
    reference_of: str

    @property
    def is_stable(self) -> bool:
        """Whether it is on the hull of the structures that were given."""
        return self.above_hull <= STABLE


@dataclass(frozen=True)
class Diagram:
    """A phase diagram.

    Attributes:
        phases: In the order of the structures.
        tie_lines: Pairs of names of stable phases that coexist.
    """

    phases: list[Phase]
    tie_lines: list[tuple[str, str]]


def energies_above_hull(
    structures: Sequence[Atoms],
    energies: Sequence[float] | BaseCalculator,
    names: Sequence[str] | None = None,
) -> list[Phase]:
    """Return what each structure is in the phase diagram of all of them.

    With E/N in eV/atom, x_e the fraction of element e, and mu_e the lowest E/N among
    the given structures of pure e, which is the reference of e::

        formation_energy = E/N - sum_e x_e mu_e
        above_hull = E/N - min_w sum_j w_j E_j/N_j, with w_j >= 0 the shares of the
                     atoms in other structures j: sum_j w_j x_e(j) = x_e

    No corrections for gases, anions or +U are added.

    Args:
        structures: n structures.
        energies: (n,) total energies in eV, all of one method; or a calculator to
            compute them, at the structures as they are (`relax` relaxes).
        names: (n,) names, all different; default: formula and number.

    Returns:
        (n,) phases, in the order of the structures.

    Raises:
        UserError: pymatgen is missing, an element has no structure of its own, or an
            energy is not a number.
    """
    return diagram_of(structures, energies, names).phases


def diagram_of(
    structures: Sequence[Atoms],
    energies: Sequence[float] | BaseCalculator,
    names: Sequence[str] | None = None,
) -> Diagram:
    """Return the phases and what coexists; all else as `energies_above_hull`."""
    totals = _energies(structures, energies)
    labels = _names(structures, names)
    check_references(structures)
    Composition, PDEntry, PhaseDiagram = need_pymatgen()
    entries = [
        PDEntry(Composition(dict(atoms.symbols.formula.count())), energy, name=label)
        for atoms, energy, label in zip(structures, totals, labels, strict=True)
    ]
    diagram = PhaseDiagram(entries)
    reference_of = {id(entry): str(el) for el, entry in diagram.el_refs.items()}
    corners = [entry.name for entry in diagram.qhull_entries]
    lines = {
        tuple(sorted((corners[i], corners[j])))
        for facet in diagram.facets
        for i, j in combinations(facet, 2)
    }
    return Diagram(
        phases=[_phase(e, diagram, reference_of.get(id(e), '')) for e in entries],
        tie_lines=sorted(lines),
    )


def _phase(entry: Any, diagram: Any, reference_of: str) -> Phase:
    parts, above = diagram.get_decomp_and_e_above_hull(entry)
    shares = entry.composition.fractional_composition
    return Phase(
        name=entry.name,
        formula=entry.composition.reduced_formula,
        fractions={str(element): float(x) for element, x in shares.items()},
        energy=float(entry.energy_per_atom),
        formation_energy=float(diagram.get_form_energy_per_atom(entry)),
        above_hull=float(above),
        decays_to={part.name: float(share) for part, share in parts.items()},
        reference_of=reference_of,
    )


def need_pymatgen() -> tuple[Any, Any, Any]:
    """Return its Composition, PDEntry and PhaseDiagram.

    Raises:
        UserError: It is not installed.
    """
    try:
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
        from pymatgen.core.composition import Composition
    except ImportError as error:
        raise UserError(
            'energies above hull need pymatgen, which is not installed here: '
            f"pip install 'sevennet_mf[analysis]' ({error})."
        ) from None
    return Composition, PDEntry, PhaseDiagram


def _energies(
    structures: Sequence[Atoms], energies: Sequence[float] | BaseCalculator
) -> list[float]:
    if len(structures) == 0:
        raise UserError('a phase diagram needs structures, and none was given.')
    for i, atoms in enumerate(structures):
        if len(atoms) == 0:
            raise UserError(f'structure {i} of the phase diagram has no atoms.')
    if isinstance(energies, BaseCalculator):
        copies = [atoms.copy() for atoms in structures]
        totals = [float(energies.get_potential_energy(atoms)) for atoms in copies]
    else:
        totals = [float(energy) for energy in energies]
    if len(totals) != len(structures):
        raise UserError(
            f'there are {len(structures)} structures and {len(totals)} energies; '
            'give one total energy in eV for each structure.'
        )
    for i, (atoms, total) in enumerate(zip(structures, totals, strict=True)):
        if not np.isfinite(total):
            raise UserError(
                f'the energy of structure {i}, {formula_of(atoms)}, is '
                f'{total}. Leave the structure out.'
            )
    return totals


def formula_of(atoms: Atoms) -> str:
    """Return the reduced formula, metals first: 'TiO2'."""
    return str(atoms.symbols.formula.reduce()[0].format('metal'))


def _names(structures: Sequence[Atoms], names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [f'{formula_of(atoms)} ({i})' for i, atoms in enumerate(structures)]
    if len(names) != len(structures) or len(set(names)) != len(names):
        raise UserError(
            f'names must be {len(structures)} different names, one for each '
            f'structure, got {list(names)}.'
        )
    return list(names)


def check_references(structures: Sequence[Atoms]) -> None:
    """Refuse an element without a structure of its own.

    Raises:
        UserError: There is one.
    """
    elements = {symbol for atoms in structures for symbol in atoms.symbols}
    pure = {a.symbols[0] for a in structures if len(set(a.numbers)) == 1}
    missing = sorted(elements - pure)
    if missing:
        raise UserError(
            f'no structure of elemental {", ".join(missing)}: formation energies '
            'are relative to the elements. Add the stable form of each (a crystal, '
            'or an O2 molecule), with its energy from the same method.'
        )
