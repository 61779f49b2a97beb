"""`sevennet-mf label`: structures in, labelled extended XYZ out."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from sevennet_mf.calculators.reference_warnings import doubtful
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.label.exchange import Outcome, Task, Teacher
from sevennet_mf.label.labels import labelled
from sevennet_mf.label.processes import label_here, label_in_processes
from sevennet_mf.label.progress import Labelling
from sevennet_mf.label.store import Store
from sevennet_mf.label.structures import Survey, files_of, structures, survey
from sevennet_mf.label.teacher import arguments_of, record_of, teacher_of
from sevennet_mf.model.load import load_model


@dataclass(frozen=True)
class Labelled:
    """What `label` did for one fidelity.

    Attributes:
        fidelity: Its name.
        path: The file with the labels.
        labelled: How many labels are in it, of all calls.
        failed: How many structures failed.
        failures: Where they are listed.
        seconds: Per label.
    """

    fidelity: str
    path: str
    labelled: int
    failed: int
    failures: str
    seconds: float


def label(
    files: Sequence[str],
    teacher: Teacher,
    output: str | os.PathLike[str] = 'labels',
    *,
    keep: Sequence[str] = (),
    processes: int = 1,
    threads: int = 1,
    retry: bool = False,
) -> list[Labelled]:
    """Label structures with a calculator, as far as they are not labelled.

    `<fidelity>.extxyz` gets a frame for each structure, with energy (eV), forces
    (eV/Å) and, in a cell, stress (eV/Å^3) in ASE's order and sign, and with
    `structure_id`, `source` and `fidelity` in its info.

    Args:
        files: With structures; labels in them are not used.
        teacher: Who labels, as `teacher_of` returns it.
        output: Folder, which earlier calls may have written.
        keep: Keys of `atoms.info` to keep.
        processes: How many calculators or models at a time, each in a process of
            its own; a single model is in this one.
        threads: Of each process, where there are several.
        retry: Try structures again that failed in an earlier call.

    Returns:
        One entry per fidelity.

    Raises:
        UserError: Something of this cannot be used.
        TrainingStopped: After SIGTERM or Ctrl-C; the same call continues.
    """
    for name, value in (('processes', processes), ('threads', threads)):
        if value < 1:
            raise UserError(f'--{name} must be 1 or more, got {value}.')
    call = _Call(files_of(files), keep, teacher, Path(output), processes, threads)
    found = survey(call.paths, keep)
    _refuse_input(call)
    _warn_of(teacher, found)
    stores: dict[str, Store] = {}
    try:
        for name in teacher.names:
            stores[name] = Store(call.output, name, record_of(teacher, name))
            if retry:
                stores[name].forget_failures()
        _work(call, found, stores)
        return [_summary(store, found) for store in stores.values()]
    finally:
        for store in stores.values():
            store.close()


@dataclass(frozen=True)
class _Call:
    """What `label` was called with."""

    paths: list[str]
    keep: Sequence[str]
    teacher: Teacher
    output: Path
    processes: int
    threads: int

    def outcomes(
        self, tasks: Iterator[Task], number: int, stop: StopRequest
    ) -> Generator[Outcome]:
        """Label in as many processes as there is work for."""
        if number == 1 and not self.teacher.is_calculator:
            return label_here(tasks, self.teacher, self.output, stop)
        cores = None if number == 1 else self.threads
        return label_in_processes(
            tasks, self.teacher, self.output, number, cores, stop
        )


def _refuse_input(call: _Call) -> None:
    """No file may be read and appended to."""
    read = {os.path.realpath(path) for path in call.paths}
    for name in call.teacher.names:
        path = call.output / f'{name}.extxyz'
        if os.path.realpath(path) in read:
            raise UserError(
                f'{path} is an input and would be written. Choose another folder '
                'with -o, or another name with -f.'
            )


def _warn_of(teacher: Teacher, found: Survey) -> None:
    """Warn of what is known to be wrong with the labels of a checkpoint."""
    if found.repeats:
        warnings.warn(
            f'copies of other structures: {found.repeats}; each structure is '
            'labelled once',
            stacklevel=3,
        )
    if teacher.is_calculator:
        return
    loaded = load_model(teacher.told, trust=teacher.trust)
    for own in teacher.names.values():
        if own in loaded.differences:
            warnings.warn(loaded.differences[own], stacklevel=3)
        untold = doubtful(loaded, own)
        for symbol in sorted(untold.keys() & found.symbols):
            warnings.warn(untold[symbol], stacklevel=3)


def _work(call: _Call, found: Survey, stores: dict[str, Store]) -> None:
    """Label what is left, and write each label as it comes."""
    missing = ((mark, _missing(mark, stores)) for mark in found.sources)
    todo = {mark: names for mark, names in missing if names}
    if todo:
        done, by = _label(call, found, stores, todo)
    for store in stores.values():
        store.finish(found.sources)
    if todo and done < len(todo):
        if not by:
            raise UserError(
                f'{", ".join(call.paths)} changed while being read. Repeat the '
                'command; what is labelled is kept.'
            )
        raise TrainingStopped(
            f'stopped by {by}: {done} of {len(todo)} structures were labelled; the '
            'same command continues.'
        )


def _label(
    call: _Call,
    found: Survey,
    stores: dict[str, Store],
    todo: dict[str, tuple[str, ...]],
) -> tuple[int, str]:
    """Return how many structures were labelled, and the signal that came."""
    tasks = _tasks(call, found, todo)
    number = min(call.processes, len(todo))
    with StopRequest().listening() as stop, closing(Labelling(len(todo))) as shown:
        with closing(call.outcomes(tasks, number, stop)) as outcomes:
            for outcome in outcomes:
                shown.count(_keep(outcome, stores))
        return shown.done, stop.name


def _missing(mark: str, stores: dict[str, Store]) -> tuple[str, ...]:
    return tuple(n for n, store in stores.items() if not store.was_tried(mark))


def _tasks(
    call: _Call, found: Survey, todo: dict[str, tuple[str, ...]]
) -> Iterator[Task]:
    """The structures to label, read again: they need not fit into memory."""
    for mark, source, atoms in structures(call.paths, call.keep):
        if found.sources.get(mark) == source and mark in todo:
            yield Task(mark, source, atoms, todo[mark])


def _keep(outcome: Outcome, stores: dict[str, Store]) -> bool:
    """Write labels and failures; return whether there is a failure."""
    task, failed = outcome.task, False
    share = outcome.seconds / len(task.names)
    for name, found in outcome.results.items():
        try:
            if isinstance(found, str):
                raise UserError(found)
            atoms = labelled(task.atoms, found)
        except UserError as error:
            stores[name].fail(task.mark, task.source, str(error))
            failed = True
        else:
            stores[name].add(task.mark, atoms, share)
    return failed


def _summary(store: Store, found: Survey) -> Labelled:
    failed = [mark for mark in store.failed if mark in found.sources]
    return Labelled(
        store.name,
        str(store.path),
        store.labelled,
        len(failed),
        str(store.failures),
        store.seconds_each,
    )


def run(args: argparse.Namespace) -> tuple[list[Table | str], int]:
    """Run `sevennet-mf label`.

    Args:
        args: Of the command line.

    Returns:
        What to show, and the exit code: 0 if every structure has its labels, else 1.

    Raises:
        UserError: As `label`.
        TrainingStopped: If it was interrupted; the same call continues.
    """
    teacher = teacher_of(
        args.calculator, args.fidelity, arguments_of(args.arguments), args.trust
    )
    rows = label(
        args.structures,
        teacher,
        args.output,
        keep=args.keep or (),
        processes=args.processes,
        threads=args.threads,
        retry=args.retry,
    )
    table = Table()
    for head in ('fidelity', 'labels', 'failed', 'seconds per label', 'file'):
        table.add_column(head, justify='left' if head == 'file' else 'right')
    for row in rows:
        numbers = (str(row.labelled), str(row.failed), f'{row.seconds:.3g}')
        table.add_row(row.fidelity, *numbers, row.path)
    said: list[Table | str] = [table]
    said += [
        f'{row.failed} failed at {row.fidelity}: see {row.failures}. --retry tries '
        'them again.'
        for row in rows
        if row.failed
    ]
    return said, int(any(row.failed for row in rows))
