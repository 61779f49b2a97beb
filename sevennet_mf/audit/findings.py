"""What an audit says, in plain builtins."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sevennet_mf.arrays import Floats

SEVERITIES: Final[tuple[str, str]] = ('problem', 'note')
LISTED: Final[int] = 10  # problems of one kind that concern one structure each
SHOWN: Final[int] = 3  # structures that a message names

# Findings.add: kind, severity, message
Report = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Spread:
    """Statistics of a number over structures."""

    min: float
    mean: float
    max: float
    std: float

    @classmethod
    def of(cls, values: Floats) -> Spread:
        return cls(
            float(values.min()),
            float(values.mean()),
            float(values.max()),
            float(values.std()),
        )


@dataclass(frozen=True)
class Problem:
    """kind: a word or two; severity: 'problem', or 'note' for what may be meant."""

    kind: str
    severity: str
    message: str


@dataclass(frozen=True)
class SetAudit:
    """One fidelity in one set (`trainset`, `validset`, ...).

    elements: per symbol {'atoms', 'structures'} that hold it; labels: structures
    with 'energy', 'force', 'stress'; energy: eV/atom; force: {'max', 'rms'} of
    atoms' forces and of their components, eV/Å; stress: {'min', 'max'} of
    components in kbar, compression positive. None where there is no such label.
    """

    set: str
    fidelity: str
    structures: int
    atoms: int
    elements: dict[str, dict[str, int]]
    labels: dict[str, int]
    energy: Spread
    force: dict[str, float] | None
    stress: dict[str, float] | None


@dataclass(frozen=True)
class PairAudit:
    """Structures labelled at two fidelities, over all sets.

    energy: high - low, eV/atom; scatter: its standard deviation in eV/atom once
    reference energies are subtracted; force_rms: of the difference's components,
    eV/Å, over `with_forces` of the structures; None if there are none.
    """

    low: str
    high: str
    structures: int
    energy: Spread
    scatter: float
    with_forces: int
    force_rms: float | None


@dataclass(frozen=True)
class Audit:
    """All that was found, in plain builtins.

    references: {fidelity: {symbol: {energy, std, determined}}} in eV, fitted to the
    training data as training does. histograms: 'energy' (eV/atom less references, by
    fidelity), 'difference' (eV/atom less references, by pair), 'force' (eV/Å, by
    fidelity): {'edges': [...], 'counts': {name: [...]}}.
    """

    file: str
    fidelities: list[str]
    base: str
    target: str
    sets: list[SetAudit]
    pairs: list[PairAudit]
    references: dict[str, dict[str, dict[str, Any]]]
    histograms: dict[str, dict[str, Any]]
    problems: list[Problem]

    @property
    def has_problems(self) -> bool:
        """Whether any of `problems` is more than a note."""
        return any(p.severity == 'problem' for p in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, ready for JSON."""
        return dataclasses.asdict(self)


class Findings:
    """Collects problems; many of one kind about single structures become one."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.count: Counter[str] = Counter()

    def add(self, kind: str, severity: str, message: str) -> None:
        self.found.append(Problem(kind, severity, message))

    def add_structure(self, kind: str, message: str) -> None:
        self.count[kind] += 1
        if self.count[kind] <= LISTED:
            self.add(kind, 'problem', message)

    def problems(self) -> list[Problem]:
        for kind, count in self.count.items():
            if count > LISTED:
                self.add(kind, 'problem', f'{count - LISTED} more like these.')
        order = {severity: k for k, severity in enumerate(SEVERITIES)}
        first = {p.kind: k for k, p in reversed(list(enumerate(self.found)))}
        return sorted(
            self.found, key=lambda p: (order[p.severity], first[p.kind])
        )


def some(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    listed = list(names)
    more = len(listed) - SHOWN
    return ', '.join(listed[:SHOWN]) + (f' and {more} more' if more > 0 else '')


def structures(count: int) -> str:
    """Return '1 structure' or '5 structures'."""
    return f'{count} structure{"" if count == 1 else "s"}'
