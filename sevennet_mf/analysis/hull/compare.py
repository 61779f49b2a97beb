"""Phase diagrams of the same structures at several levels of theory, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ase import Atoms
from ase.formula import Formula

from sevennet_mf.analysis.hull.diagram import Phase, diagram_of
from sevennet_mf.analysis.hull.relaxations import (
    FORCE,
    STEPS,
    Relaxation,
    RelaxedSet,
)
from sevennet_mf.analysis.hull.structures import StartPhase
from sevennet_mf.data.reading.stress import has_stress
from sevennet_mf.errors import UserError

# two phases that differ by less have relaxed into the same one
SAME_ENERGY: Final[float] = 1e-3  # eV/atom
SAME_VOLUME: Final[float] = 0.01  # relative
# by more than this, relative, no measured structure of a known phase should change
DOUBTFUL_VOLUME: Final[float] = 0.15


@dataclass(frozen=True, eq=False)
class RelaxedPhase:
    """A phase at one level.

    Attributes:
        phase: Its energies.
        atoms: The structure, with its labels.
        start: What it was before.
        converged: Whether it is relaxed.
        same_as: The phase before it that it has become, by name, or ''.
    """

    phase: Phase
    atoms: Atoms
    start: StartPhase
    converged: bool
    same_as: str = ''

    @property
    def force(self) -> float:
        """The largest that is left, in eV/Å."""
        return float(self.atoms.info[FORCE])

    @property
    def steps(self) -> int:
        """Steps of the relaxation."""
        return int(self.atoms.info[STEPS])

    @property
    def volume(self) -> float | None:
        """In Å^3 per atom; None without a cell."""
        if not has_stress(self.atoms):
            return None
        return float(self.atoms.cell.volume / len(self.atoms))

    @property
    def volume_change(self) -> float | None:
        """Of the relaxation, relative to the volume before."""
        if self.volume is None:
            return None
        before = self.start.atoms.cell.volume / len(self.start.atoms)
        return float(self.volume / before - 1)


@dataclass(frozen=True, eq=False)
class LevelHull:
    """The phase diagram at one level.

    Attributes:
        name: Of the level.
        told: Who computed the energies.
        phases: By name.
        tie_lines: Pairs of names of stable phases that coexist.
    """

    name: str
    told: str
    phases: dict[str, RelaxedPhase]
    tie_lines: list[tuple[str, str]]

    @property
    def coexisting(self) -> dict[tuple[str, ...], None]:
        """The tie lines as pairs of formulas, whichever polymorphs are stable."""
        return dict.fromkeys(map(self.formulas, self.tie_lines))

    def formulas(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """Return the formulas at the ends of a tie line, in alphabetical order."""
        return tuple(sorted(self.phases[name].phase.formula for name in pair))


@dataclass(frozen=True)
class StabilityChange:
    """A phase that is on the hull at some levels and above it at others.

    Attributes:
        name: Of the phase.
        stable_at: Levels at which it is on the hull.
        above_hull: By level, eV/atom, where it is not.
        is_clear: Whether it is above by more than the tolerance somewhere.
    """

    name: str
    stable_at: tuple[str, ...]
    above_hull: dict[str, float]
    is_clear: bool


@dataclass(frozen=True, eq=False)
class Hulls:
    """What `sevennet-mf hull` found.

    Attributes:
        how: How structures were relaxed.
        tolerance: In eV/atom; stability that changes by less is too close to call.
        levels: In the order of the command line.
        failures: By name of a phase, by level, why it is in no diagram.
    """

    how: Relaxation
    tolerance: float
    levels: Sequence[LevelHull]
    failures: Mapping[str, Mapping[str, str]]

    @property
    def names(self) -> list[str]:
        """Of the phases, which are the same at each level."""
        return list(self.levels[0].phases)

    @property
    def elements(self) -> list[str]:
        """Symbols, metals first."""
        phases = [one.phase for one in self.levels[0].phases.values()]
        every = sorted({symbol for phase in phases for symbol in phase.fractions})
        ordered = Formula(''.join(every)).format('metal')
        return list(Formula(ordered).count())

    @property
    def changes(self) -> list[StabilityChange]:
        """Of phases that are stable at some of the levels only."""
        found = []
        for name in self.names:
            if all(level.phases[name].same_as for level in self.levels):
                continue  # told as the other one
            phases = {level.name: level.phases[name].phase for level in self.levels}
            stable = tuple(n for n, phase in phases.items() if phase.is_stable)
            above = {
                n: phase.above_hull for n, phase in phases.items() if n not in stable
            }
            if stable and above:
                is_clear = max(above.values()) > self.tolerance
                found.append(StabilityChange(name, stable, above, is_clear))
        return found


def compare(
    starts: Sequence[StartPhase],
    relaxed: Mapping[str, RelaxedSet],
    how: Relaxation,
    tolerance: float,
) -> Hulls:
    """Return the phase diagrams, of structures that have an energy at each level.

    Args:
        starts: The structures before relaxation.
        relaxed: By level, after it.
        how: How structures were relaxed.
        tolerance: In eV/atom, see `Hulls`.

    Raises:
        UserError: An element has lost its only structure.
    """
    failures: dict[str, dict[str, str]] = {}
    for level, of in relaxed.items():
        for name, atoms in of.found.items():
            if isinstance(atoms, str):
                failures.setdefault(name, {})[level] = atoms
    left = [start for start in starts if start.name not in failures]
    try:
        levels = [_level(name, left, of, how) for name, of in relaxed.items()]
    except UserError as error:
        if not failures:
            raise
        lines = '; '.join(failure_lines(failures))
        raise UserError(f'{lines}. Without these, {error}') from None
    return Hulls(how, tolerance, levels, failures)


def failure_lines(failures: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return 'rutile at PBE: why' for each failure."""
    return [
        f'{name} at {level}: {why.rstrip(".")}'
        for name, lines in failures.items()
        for level, why in lines.items()
    ]


def _level(
    name: str,
    starts: Sequence[StartPhase],
    of: RelaxedSet,
    how: Relaxation,
) -> LevelHull:
    structures = [a for s in starts if isinstance(a := of.found[s.name], Atoms)]
    diagram = diagram_of(
        structures,
        [atoms.get_potential_energy() for atoms in structures],
        [start.name for start in starts],
    )
    phases: dict[str, RelaxedPhase] = {}
    for start, atoms, phase in zip(starts, structures, diagram.phases, strict=True):
        new = RelaxedPhase(phase, atoms, start, how.has_converged(atoms))
        same = '' if how.fixed else _same(new, phases)
        phases[start.name] = replace(new, same_as=same)
    return LevelHull(name, of.told, phases, diagram.tie_lines)


def _same(new: RelaxedPhase, others: Mapping[str, RelaxedPhase]) -> str:
    """The first of others that a phase cannot be told from, or ''."""
    for name, other in others.items():
        if (
            not other.same_as
            and other.phase.formula == new.phase.formula
            and abs(other.phase.energy - new.phase.energy) < SAME_ENERGY
            and _same_volume(other.volume, new.volume)
        ):
            return name
    return ''


def _same_volume(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_VOLUME * one
