"""What processes that label tell one another; without torch, which takes seconds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ase import Atoms

# module:name, also of a file: dft.py:make
IMPORT_PATH: Final[re.Pattern[str]] = re.compile(
    r'(?P<module>.+):(?P<name>[^\W\d][\w.]*)'
)


@dataclass(frozen=True)
class Teacher:
    """Whatever computes the labels; each process builds it itself.

    Attributes:
        told: As after `--with`: an import path, or a checkpoint.
        names: Fidelity in the files -> fidelity of the checkpoint; '' for a
            calculator, which has one.
        arguments: Keywords of the calculator.
        trust: Read a checkpoint that runs code.
    """

    told: str
    names: dict[str, str]
    arguments: dict[str, Any] = field(default_factory=dict)
    trust: bool = False

    @property
    def is_calculator(self) -> bool:
        return is_import_path(self.told)


def is_import_path(told: str) -> bool:
    """Return whether `--with` names a calculator, not a checkpoint."""
    return not os.path.exists(told) and IMPORT_PATH.fullmatch(told) is not None


@dataclass(frozen=True, eq=False)
class Task:
    """A structure, and what it is to be labelled as.

    Attributes:
        mark: Its `structure_id`.
        source: 'file:frame'.
        names: Fidelities, as in the files.
    """

    mark: str
    source: str
    atoms: Atoms
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a task.

    Attributes:
        results: By fidelity what ASE's calculators call their results, not yet
            checked; or the one line of a failure.
        seconds: The time that it took.
    """

    task: Task
    results: dict[str, Mapping[str, Any] | str]
    seconds: float

    @property
    def failed(self) -> bool:
        return any(isinstance(found, str) for found in self.results.values())
