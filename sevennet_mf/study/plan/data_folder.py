"""The data of a study, split once and written to a folder for all its runs."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from sevennet_mf.data import extxyz
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.errors import UserError
from sevennet_mf.files import make_folder
from sevennet_mf.study.plan import determined
from sevennet_mf.study.plan.input_yaml import Base
from sevennet_mf.study.plan.label_set import LabelSet, chance, label_order
from sevennet_mf.study.plan.methods import Config, entry
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.plan.target_labels import Parts, split_target

FOLDER: Final[str] = 'data'  # in the folder of a study
# training labels of `low` for the pool, used for differences
PAIRED: Final[str] = 'paired.extxyz'
TEST: Final[str] = 'test.extxyz'


@dataclass
class Material:
    """Files of a study's data, and the number of structures in them.

    Attributes:
        folder: OUT/data.
        pool: Labels of the target available for training.
        valid: Validation structures of the target.
        test: Test structures of all runs.
        low_train: Training structures of the other fidelities, by name.
        low_valid: Validation structures of the other fidelities, by name.
        paired: How many structures of the pool have a label of `low`.
        test_low_labelled: How many test structures have a label of another
            fidelity in training.
        doubt: A warning about the energies of the test set, or ''.
        elements: Of all data.
        given: All training structures of input_yaml.
    """

    folder: Path
    target: str
    pool: int = 0
    valid: int = 0
    test: int = 0
    low_train: Counter[str] = field(default_factory=Counter)
    low_valid: Counter[str] = field(default_factory=Counter)
    paired: int = 0
    test_low_labelled: int = 0
    doubt: str = ''
    elements: tuple[str, ...] = ()
    given: int = 0

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def train_entry(self, fidelity: str) -> Config:
        return entry(self.file(f'train_{fidelity}.extxyz'), fidelity)

    def label_entry(self, seed: int, count: int) -> Config:
        """Return an entry with the first labels of the target, in a seed's order."""
        return entry(self.file(label_file(self.target, seed)), self.target, count)

    @property
    def test_entry(self) -> Config:
        return entry(self.file(TEST), self.target)

    def valid_entries(self) -> dict[str, list[Config]]:
        counts = {**self.low_valid, self.target: self.valid}
        return {
            name: [entry(self.file(f'valid_{name}.extxyz'), name)]
            for name, count in counts.items()
            if count
        }


def label_file(target: str, seed: int) -> str:
    return f'labels_{target}_seed{seed}.extxyz'


def gather(study: Study, base: Base, out: Path, may_change: bool) -> Material:
    """Read the data of input_yaml, split them, and write OUT/data.

    Args:
        out: Folder of the study.
        may_change: Whether the data may differ from those of an earlier call.

    Raises:
        UserError: For data that cannot be used, a split that leaves one side empty,
            more labels than there are, or data that must not change but did.
    """
    folder = out / FOLDER
    make_folder(folder)
    reader = Reader()
    parts = split_target(study, base, reader)
    _check_counts(study, base, len(parts.pool))
    doubt = determined.check_test(study, base, parts)
    determined.check_counts(study, base, parts)
    material = Material(
        folder,
        base.target,
        pool=len(parts.pool),
        valid=len(parts.valid),
        test=len(parts.test),
        doubt=doubt,
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix='.new_') as temporary:
        new = Path(temporary)
        _write_target(study, base, parts, new)
        _Others(base, parts, material, reader).write(new)
        for path in sorted(new.iterdir()):
            extxyz.put(path, folder / path.name, may_change)
    return material


def _check_counts(study: Study, base: Base, pool: int) -> None:
    for count in study.labels:
        if count != 'all' and count > pool:
            raise UserError(
                f'study.labels: {count} is more than the {pool} labelled structures '
                f'of {base.target!r} available for training. Lower it, or write '
                "'all'."
            )


def _write_target(study: Study, base: Base, parts: Parts, new: Path) -> None:
    files = {TEST: parts.test}
    if len(parts.valid):
        files[f'valid_{base.target}.extxyz'] = parts.valid
    for seed in study.seeds:
        order = label_order(parts.pool, seed, parts.first)
        files[label_file(base.target, seed)] = parts.pool.at(order)
    for name, labels in files.items():
        extxyz.write(new / name, map(extxyz.to_atoms, labels.structures))


class _Others:
    """Streams the structures of the other fidelities into files."""

    def __init__(
        self, base: Base, parts: Parts, material: Material, reader: Reader
    ) -> None:
        self.base, self.parts, self.material = base, parts, material
        self.reader = reader
        self.pool, self.valid = set(parts.pool.marks), set(parts.valid.marks)
        self.elements = set[str]()
        self.trained = set[int]()
        self.paired: dict[int, Structure] = {}

    def write(self, new: Path) -> None:
        """Write all files, and record in the material what is in them."""
        others = [name for name in self.base.order if name != self.base.target]
        streams: dict[str, TextIO] = {}
        with contextlib.ExitStack() as stack:
            for side in ('train', 'valid'):
                for structure in self._given(side, others):
                    name = (
                        f'{self._note(structure, side)}_{structure.fidelity}.extxyz'
                    )
                    if name not in streams:
                        stream = (new / name).open('w', encoding='utf-8')
                        streams[name] = stack.enter_context(stream)
                    extxyz.write_one(streams[name], extxyz.to_atoms(structure))
        for name in others:
            if not self.material.low_train[name]:
                raise UserError(
                    f'study.input_yaml: no training structure of {name!r} is left.'
                )
        extxyz.write(new / PAIRED, map(extxyz.to_atoms, self.paired.values()))
        self._conclude()

    def _given(self, side: str, others: list[str]) -> Iterator[Structure]:
        if side == 'train':
            yield from self.base.structures(self.base.train, others)
        else:
            for name in others:
                yield from self.base.validation(name)

    def _note(self, structure: Structure, side: str) -> str:
        """Count a structure; return 'train' or 'valid', where it belongs."""
        mark, name = self.reader.same(structure).mark, structure.fidelity
        if side == 'train' and self.base.ratio:
            # no structure is trained on at one fidelity and validated on at another
            by_chance = chance(mark, self.base.seed) <= self.base.ratio
            if mark in self.valid or (by_chance and mark not in self.pool):
                side = 'valid'
        material = self.material
        (material.low_train if side == 'train' else material.low_valid)[name] += 1
        self.elements |= LabelSet([structure], [mark]).elements
        if side == 'train':
            self.trained.add(mark)
            # validation labels are not used to learn a difference
            if name == self.base.low and mark in self.pool:
                self.paired.setdefault(mark, structure)
        return side

    def _conclude(self) -> None:
        parts, material = self.parts, self.material
        material.given = parts.given + sum(material.low_train.values())
        material.paired = sum(mark in self.paired for mark in parts.pool.marks)
        known = [mark in self.trained for mark in parts.test.marks]
        material.test_low_labelled = sum(known)
        for labels in (parts.pool, parts.valid, parts.test):
            self.elements |= labels.elements
        material.elements = tuple(sorted(self.elements))
