"""Data of a checkpoint's fidelities, for training or to monitor their drift."""

from __future__ import annotations

import math
import warnings
from operator import methodcaller
from pathlib import Path
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
from ase import Atoms
from ase.data import chemical_symbols
from sevenn.logger import Logger

from sevennet_mf.arrays import Bools
from sevennet_mf.config.blocks import Replay, SelfLabel
from sevennet_mf.data.dataset import FOLDER, FidelityDataset, random_split
from sevennet_mf.data.extxyz import to_atoms
from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.metrics import errors
from sevennet_mf.files import make_folder, write_whole
from sevennet_mf.train.continuing import self_label
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop.drift import MEASURED, Drift, Values
from sevennet_mf.train.setup import DRIFT, TRAIN, present_elements

Config = dict[str, Any]
Sets = dict[str, FidelityDataset]
LOAD_TRAIN: Final = 'load_trainset_path'
LOAD_VALID: Final = 'load_validset_path'
LOAD_DRIFT: Final = f'load_{DRIFT}_path'
AS_THEY_ARE: Final = SelfLabel.model_validate(
    {'per_structure': 0, 'rattle': 0.0, 'strain': 0.0}
)


def is_wanted(start: Start) -> bool:
    """Whether a run has old fidelities to replay or to monitor.

    A run that adds fidelities has; one that merely continues, if the YAML asks.
    """
    train = start.inputs.train
    asked = train.replay is not None or train.max_drift is not None
    watched = set(start.old) - set(start.trained)
    return bool(watched) and (asked or start.adds_fidelities)


class ReplayData:
    """The replay of a run, and structures to monitor the drift of the rest.

    Self labels are written on the way, by the first process.

    Attributes:
        watched: the old fidelities that are monitored.
        n_own: the number of the user's own entries for training.
        entries: the run's, with those of the replay after the user's own, and the
            set `drift`, on which old fidelities without a replay are monitored.

    Raises:
        UserError: Files or structures cannot be used.
    """

    def __init__(self, start: Start, working_dir: str, process: Process) -> None:
        self.start = start
        self.inputs = start.inputs
        self.block: Replay | None = self.inputs.train.replay
        self.watched = [name for name in start.old if name not in start.trained]
        own = self.inputs.entries
        self.n_own = len(own[LOAD_TRAIN])
        self.seed = self.inputs.seed
        self.folder = Path(working_dir) / FOLDER
        self.device = process.device(self.inputs.host[KEY.DEVICE])
        entries, shown = process.share(self._found)
        if process.distributed:
            self._receive(process, [*(entries if self._labels() else []), *shown])
        watched = {LOAD_DRIFT: shown} if shown else {}
        load = [*own[LOAD_TRAIN], *entries]
        self.entries = {**own, LOAD_TRAIN: load, **watched}

    def _receive(self, process: Process, entries: list[Config]) -> None:
        """Copy the self labels to this process's folder, and update `entries`.

        The folder of the first process may be on another machine.
        """
        make_folder(self.folder)
        for entry in entries:
            there = Path(entry['file'][0])
            here = self.folder / there.name
            if process.anywhere(not here.is_file()):
                content = process.share(there.read_bytes)
                if not here.is_file():
                    write_whole(here, methodcaller('write', content))
            entry['file'] = [str(here)]

    def _labels(self) -> bool:
        """Whether the replay consists of self labels."""
        return self.block is not None and self.block.self_label is not None

    def _found(self) -> tuple[list[Config], list[Config]]:
        entries = [] if self.block is None else self._entries(self.block)
        replayed = {entry['fidelity'] for entry in entries}
        rest = [name for name in self.watched if name not in replayed]
        return entries, self._shown(rest) if rest else []

    def _shown(self, names: list[str]) -> list[Config]:
        """The data on which old fidelities without a replay are monitored."""
        try:
            structures = self._of_trained(LOAD_VALID) or self._trained_on()
        except UserError as error:
            if self.inputs.train.max_drift is not None:
                raise
            # nobody asked for it: a graph file, for example, does not stop training
            message = f'the drift of {names} is not monitored. {error}'
            Logger().writeline(f'WARNING: {message}')
            warnings.warn(message, UserWarning, stacklevel=2)
            return []
        return self._self_labelled(structures, AS_THEY_ARE, names)

    def _entries(self, block: Replay) -> list[Config]:
        name = block.fidelity
        if name is not None and name not in self.watched:
            raise UserError(
                f'train.fidelity.replay.fidelity: {name!r} is the fidelity being '
                f'trained, so it cannot be replayed. Write one of {self.watched}, '
                'or put its data into data.load_trainset_path.'
            )
        options = block.self_label
        if options is None:
            return [block.entry]
        if options.structures is None:
            structures = self._trained_on()
        else:
            files = options.structures  # a list since it was read: complete.py
            assert isinstance(files, list)
            structures = self_label.structures_in(files)
        names = [name] if name else self.watched
        return self._self_labelled(structures, options, names)

    def _trained_on(self) -> list[Atoms]:
        structures = self._of_trained(LOAD_TRAIN)
        if not structures:
            raise UserError(
                f'data.{LOAD_TRAIN} has no structure of {list(self.start.trained)}. '
                'Add data, or correct the names.'
            )
        return structures

    def _of_trained(self, load: str) -> list[Atoms]:
        """The user's structures of the fidelities that are trained, each once."""
        inputs = self.inputs
        found: dict[int, Atoms] = {}
        reader = Reader()
        for entry in inputs.entries.get(load, ()):
            if entry.get('fidelity', self.start.trained[0]) in self.start.trained:
                for structure in read_entry(
                    entry, inputs.data.key, inputs.order, inputs.cutoff
                ):
                    if structure.fidelity in self.start.trained:
                        mark = reader.same(structure).mark
                        found.setdefault(mark, to_atoms(structure))
        return list(found.values())

    def _self_labelled(
        self,
        structures: list[Atoms],
        options: SelfLabel,
        names: list[str],
    ) -> list[Config]:
        make_folder(self.folder)
        theirs = [self.start.old_name(n) for n in names]
        paths = self_label.write_labelled(
            self.folder,
            self.start.loaded,
            structures,
            theirs,
            options,
            self.seed,
            self.device,
        )
        return [
            {'file': [paths[own]], 'fidelity': n}
            for n, own in zip(names, theirs, strict=True)
        ]

    # ---- the sets

    def self_labelled(self, sets: Sets) -> dict[str, Bools]:
        """Return, for sets with self labels, which structures have them, (n,)."""
        found = {}
        if self._labels():
            found[TRAIN] = sets[TRAIN].of_entries(self.n_own)
        if DRIFT in sets:
            found[DRIFT] = np.ones(len(sets[DRIFT]), bool)
        return found

    def divide(self, sets: Sets) -> Sets:
        """Return the sets with a part of the replay held out, as the set `drift`.

        Raises:
            UserError: The replay has no element of the trained fidelities, or too
                few structures.
        """
        if self.block is None:
            return sets
        train = sets[TRAIN]
        is_replay = train.of_entries(self.n_own)
        replay = train.subset(np.flatnonzero(is_replay))
        rows = [train.rows_of(name) for name in self.start.trained]
        own = train.subset(np.concatenate(rows))
        present = [set(present_elements({'': part})) for part in (replay, own)]
        if not present[0] & present[1]:
            names = [
                ', '.join(chemical_symbols[z] for z in sorted(p)) for p in present
            ]
            raise UserError(
                'train.fidelity.replay has no element of '
                f'{list(self.start.trained)}: it contains {names[0]}, the labels '
                f'contain {names[1]}. Replay structures similar to those you have '
                'labels for.'
            )
        # those that also have the user's labels are held out last: labels are
        # inferred from them
        kept, held_out = random_split(
            replay, self.block.held_out, self.seed, train.fingerprint[~is_replay]
        )
        if not len(held_out):
            raise UserError(
                f'train.fidelity.replay: {self.block.held_out} of {len(replay)} '
                'structures leaves none to measure the drift on. Raise held_out, or '
                'give more structures.'
            )
        Logger().writeline(
            f'Replay: {len(kept)} structures to train on, {len(held_out)} held out'
        )
        is_trained = ~is_replay | np.isin(train.fingerprint, kept.fingerprint)
        if DRIFT in sets:
            held_out = held_out.joined(sets[DRIFT])
        train = train.subset(np.flatnonzero(is_trained))
        return {**sets, TRAIN: train, DRIFT: held_out}


def only_trained(sets: Sets, start: Start) -> Sets:
    """Return the sets without training labels that cannot train any weight."""
    train = sets[TRAIN]
    rows = [train.rows_of(name) for name in start.trained]
    return {**sets, TRAIN: train.subset(np.sort(np.concatenate(rows)))}


def drift_of(start: Start, dataset: FidelityDataset) -> Drift:
    """Measure the original checkpoint on the set `drift`; limits are the YAML's.

    Raises:
        UserError: There is a limit for labels that the set does not have.
    """
    before: Values = {}
    structures = {}
    for index in sorted(set(dataset.fidelity_index.tolist())):
        name = dataset.fidelities[index]
        own = dataset.subset(dataset.rows_of(name))
        (row,) = errors(start.predict(own, start.old_name(name)))
        before[name] = {quantity: row.mae[quantity] for quantity in MEASURED}
        structures[name] = {q: row.labelled[q] for q in MEASURED}
    given = start.inputs.train.max_drift
    asked = {} if given is None else given.model_dump()
    limits = {q: v for q, v in asked.items() if v is not None}
    for quantity in limits:
        if all(math.isnan(values[quantity]) for values in before.values()):
            raise UserError(
                f'train.fidelity.max_drift.{quantity}: {limits[quantity]:g} cannot '
                f'be checked: no held-out structure of {list(before)} has '
                f'{quantity} labels. Remove it, or replay structures that have '
                'them.'
            )
    return Drift(before, limits, structures)
