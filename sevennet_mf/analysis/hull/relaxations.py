"""All structures relaxed at each level of theory, as far as that is not done yet."""

from __future__ import annotations

import time
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ase import Atoms

from sevennet_mf.analysis.hull.structures import NAME, StartPhase
from sevennet_mf.analysis.relax import relaxed
from sevennet_mf.calculators.fidelity import FidelityCalculator
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.files import read_json
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.label.calculators import line_of, made
from sevennet_mf.label.exchange import Teacher
from sevennet_mf.label.labeller import folder_of, remove_if_empty
from sevennet_mf.label.labels import labelled
from sevennet_mf.label.progress import Labelling
from sevennet_mf.label.store import Store
from sevennet_mf.label.structures import MARK, SOURCE
from sevennet_mf.label.teacher import RELAXATION, record_of

# of a relaxed structure, in its info
FORCE: Final[str] = 'max_force'  # what is left, see `relax.Relaxed`
STEPS: Final[str] = 'relaxation_steps'


@dataclass(frozen=True)
class Relaxation:
    """How structures are relaxed.

    Attributes:
        fmax: The largest force that counts as relaxed, in eV/Å.
        steps: At most, of one structure, in all calls.
        fixed: Nothing moves.
    """

    fmax: float
    steps: int
    fixed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fmax < float('inf'):
            raise UserError(f'--fmax must be above 0 eV/Å, got {self.fmax:g}.')
        if self.steps < 1:
            raise UserError(
                f'--steps must be 1 or more, got {self.steps}; --fixed leaves the '
                'structures as they are.'
            )

    @property
    def unit(self) -> str:
        """What is counted."""
        return 'evaluations' if self.fixed else 'relaxations'

    def record(self, teacher: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record of a teacher, of structures that are relaxed this way."""
        return {**teacher, RELAXATION: 'fixed' if self.fixed else 'relaxed'}

    def is_done(self, atoms: Atoms) -> bool:
        """Whether nothing is left to do for a structure that was relaxed before."""
        return self.fixed or self.has_converged(atoms) or self.left(atoms) == 0

    def has_converged(self, atoms: Atoms) -> bool:
        """Whether no force is larger than `fmax`; also if nothing moves."""
        return self.fixed or bool(atoms.info[FORCE] < self.fmax)

    def left(self, atoms: Atoms) -> int:
        """How many steps are left for a structure."""
        if self.fixed:
            return 0
        return max(0, self.steps - int(atoms.info.get(STEPS, 0)))


@dataclass(frozen=True, eq=False)
class RelaxedSet:
    """Structures at one level.

    Attributes:
        told: Who computed them, as after `--with`.
        found: By name, the structure with its labels; or one line that says why
            there is none.
    """

    told: str
    found: Mapping[str, Atoms | str]


def relax_all(
    starts: Sequence[StartPhase],
    teacher: Teacher,
    output: Path,
    how: Relaxation,
) -> dict[str, RelaxedSet]:
    """Relax structures at each level of a teacher.

    `<level>.extxyz` in the folder gets each of them with its labels. What is there
    already is kept, or relaxed further if it needs that.

    Args:
        starts: The structures.
        teacher: A calculator, or levels of a checkpoint.
        output: Folder, which earlier calls may have written.
        how: Limits.

    Returns:
        The structures by level.

    Raises:
        UserError: The calculator or the folder cannot be used.
        TrainingStopped: After SIGTERM or Ctrl-C; the same call continues.
    """
    with ExitStack() as stack:
        stores = {
            name: stack.enter_context(
                closing(Store(output, name, how.record(record_of(teacher, name))))
            )
            for name in teacher.names
        }
        for store in stores.values():
            store.forget_failures()
        _work(starts, teacher, output, how, stores)
        return {
            name: RelaxedSet(teacher.told, _found(store, starts))
            for name, store in stores.items()
        }


def of_before(
    starts: Sequence[StartPhase], output: Path, how: Relaxation, but: Container[str]
) -> dict[str, RelaxedSet]:
    """Return the levels that earlier calls relaxed all of the structures at.

    Args:
        but: Levels to leave out.

    Raises:
        UserError: Another process is at work in the folder.
    """
    found = {}
    for path in sorted(output.glob('*.json')):
        name, record = path.stem, read_json(path)
        if name in but or record != how.record(record):
            continue
        with closing(Store(output, name, record)) as store:
            missing = sum(start.mark not in store for start in starts)
            if missing:
                warnings.warn(
                    f'{name}, of an earlier call, is not compared: {missing} of '
                    f'{len(starts)} structures are missing there',
                    stacklevel=3,
                )
            else:
                found[name] = RelaxedSet(record['with'], _found(store, starts))
    return found


def _found(store: Store, starts: Sequence[StartPhase]) -> dict[str, Atoms | str]:
    failed = store.failed
    return {
        start.name: (
            _named(store, start) if start.mark in store else failed[start.mark][-1]
        )
        for start in starts
    }


def _named(store: Store, start: StartPhase) -> Atoms:
    """A structure from the file, by the name that it has now."""
    atoms = store.read(start.mark)
    atoms.info[NAME] = start.name
    return atoms


def _work(
    starts: Sequence[StartPhase],
    teacher: Teacher,
    output: Path,
    how: Relaxation,
    stores: Mapping[str, Store],
) -> None:
    """Relax what is left, and write each structure as it comes."""
    todo = [
        (start, store)
        for start in starts
        for store in stores.values()
        if start.mark not in store or not how.is_done(store.read(start.mark))
    ]
    stopped = ''
    if todo:
        with (
            _calculators(teacher, output) as calculators,
            StopRequest().listening() as stop,
            closing(Labelling(len(todo), what='hull', unit=how.unit)) as shown,
        ):
            for start, store in todo:
                failed = not _relax(start, store, calculators, how, stop)
                if stop:
                    stopped = stop.name
                    break
                shown.count(failed)
            done = shown.done
    for store in stores.values():
        store.finish(start.mark for start in starts)
    if stopped:
        raise TrainingStopped(
            f'stopped by {stopped}: {done} of {len(todo)} {how.unit} are complete; '
            'the same command continues.'
        )


def _relax(
    start: StartPhase,
    store: Store,
    calculators: Calculators,
    how: Relaxation,
    stop: StopRequest,
) -> bool:
    """Relax a structure and write it; return whether that was possible."""
    atoms = start.atoms
    if start.mark in store:
        atoms = store.read(start.mark)
    before = int(atoms.info.get(STEPS, 0))
    began = time.monotonic()
    try:
        # files and modules of it are found from here
        own = calculators.at(store.name)
        with chdir(calculators.folder):
            found = relaxed(
                atoms,
                own,
                fmax=how.fmax,
                steps=how.left(atoms),
                stop=lambda: bool(stop),
            )
        result = labelled(found.atoms, found.atoms.calc.results)
    except Exception as error:  # of somebody's calculator, or of the structure in it
        calculators.forget()
        if not stop:  # else Ctrl-C also ended the program of the calculator
            store.fail(start.mark, start.source, line_of(error))
        return False
    result.info = {NAME: start.name, MARK: start.mark, SOURCE: start.source}
    result.info.update({FORCE: found.force, STEPS: before + found.steps})
    store.add(start.mark, result, time.monotonic() - began)
    return True


class Calculators:
    """A teacher as a calculator of ASE, at one level after another.

    Attributes:
        folder: Where it may write its files.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self._teacher, self.folder = teacher, folder
        self._made: Any = None

    def at(self, level: str) -> Any:
        """Return the calculator for one level, made when it is first needed."""
        teacher = self._teacher
        if teacher.is_calculator:
            if self._made is None:
                self._made = made(teacher.told, teacher.arguments, self.folder)
            return self._made
        theirs = teacher.names[level]
        if self._made is None:
            self._made = FidelityCalculator(
                teacher.told, theirs, trust=teacher.trust, **teacher.arguments
            )
        self._made.fidelity = theirs
        return self._made

    def forget(self) -> None:
        """Make a new one next time, whatever state this one is in."""
        if self._teacher.is_calculator:
            self._made = None


@contextmanager
def _calculators(teacher: Teacher, output: Path) -> Iterator[Calculators]:
    """Within, the calculators of a teacher; made at once, to find what is wrong."""
    folder = folder_of(output, 1)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = Calculators(teacher, folder)
        found.at(next(iter(teacher.names)))
        yield found
    finally:
        remove_if_empty(folder)
