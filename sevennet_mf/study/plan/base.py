"""What input_yaml provides for all runs of a study, and how it is read."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.config import inputs
from sevennet_mf.data.dataset import is_validation, sets_of
from sevennet_mf.data.read import Structure, read_entry
from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.methods import Config

TRAIN = 'load_trainset_path'


@dataclass(frozen=True)
class Base:
    """input_yaml, read and checked.

    Attributes:
        sections: As written, with absolute paths.
        order: Fidelities, from low to high.
        low: The fidelity that transfer and delta build on: the base, or the lowest
            one that is not the target.
        key: data.fidelity.key.
        train: Entries for `read.read_entry`.
        valid: Entries of every validation set, by its name.
        ratio: data_divide_ratio, 0 if there is none.
        seed: random_seed.
        steps_per_epoch: None for a pass over the data.
        cutoff: In Å.
        given: Elements whose reference energy at the target is given as a number.
        least_steps: Fewest steps of an epoch that is a pass over the data.
    """

    sections: Config
    order: tuple[str, ...]
    target: str
    low: str
    key: str | None
    train: list[Config]
    valid: dict[str, list[Config]]
    ratio: float
    seed: int
    epochs: int
    batch_size: int
    steps_per_epoch: int | None
    cutoff: float
    given: tuple[str, ...] = ()
    least_steps: int = 1

    def structures(
        self, entries: list[Config], wanted: Collection[str]
    ) -> Iterator[Structure]:
        """Yield the structures of some fidelities, in a stream.

        Args:
            entries: Of `train` or `valid`.
            wanted: Names of fidelities.

        Raises:
            UserError: For data that cannot be used.
        """
        for entry in entries:
            if entry.get('fidelity') is not None and entry['fidelity'] not in wanted:
                continue
            for structure in read_entry(entry, self.key, self.order, self.cutoff):
                if structure.fidelity in wanted:
                    yield structure

    def validation(self, fidelity: str) -> Iterator[Structure]:
        """Yield the structures that select the best checkpoint of a fidelity.

        They are those of one validation set, as in `sevennet-mf train`: of
        `validset` if it has any, else of the first set that has.
        """
        for name in sorted(self.valid, key=lambda name: name != 'validset'):
            found = self.structures(self.valid[name], [fidelity])
            if (first := next(found, None)) is not None:
                yield first
                yield from found
                return


def read_base(path: str) -> Base:
    """Read the input_yaml of a study.

    Raises:
        UserError: If it is not a multi-fidelity training YAML, has fewer than two
            fidelities, or continues from a checkpoint.
    """
    sections = _sections(path)
    model, train, data = configs(sections, f'study.input_yaml: {path}')
    order = tuple(data[keys.FIDELITY_DATA]['order'])
    target = train[keys.FIDELITY_TRAIN]['target']
    others = [name for name in order if name != target]
    if not others:
        raise UserError(
            f'study.input_yaml: {path} has only the fidelity {target!r}. A study '
            'compares ways to train on several: give a multi-fidelity YAML.'
        )
    base = data[keys.FIDELITY_DATA]['base']
    return Base(
        sections=sections,
        order=order,
        target=target,
        low=base if base != target else others[0],
        key=data[keys.FIDELITY_DATA]['key'],
        train=data[TRAIN],
        valid={
            name: entries
            for name, entries in sets_of(data).items()
            if is_validation(name)
        },
        ratio=float(data.get(KEY.RATIO) or 0.0),
        seed=int(train[KEY.RANDOM_SEED]),
        epochs=int(train[KEY.EPOCH]),
        batch_size=int(data[KEY.BATCH_SIZE]),
        steps_per_epoch=train[keys.FIDELITY_TRAIN]['steps_per_epoch'],
        cutoff=float(model[KEY.CUTOFF]),
        given=_given(data[keys.FIDELITY_DATA]['reference_energies'], target),
        least_steps=train[keys.FIDELITY_TRAIN].get(keys.LEAST_STEPS) or 1,
    )


def _given(numbers: Any, target: str) -> tuple[str, ...]:
    return tuple(numbers.get(target) or ()) if isinstance(numbers, dict) else ()


def _sections(path: str) -> Config:
    """The sections of a YAML as given, with paths relative to its folder."""
    sections = inputs.load_yaml(path)
    if not inputs.has_fidelity(sections):
        raise UserError(
            f'study.input_yaml: {path} names no fidelity. A study compares ways to '
            'train on several: give a multi-fidelity YAML.'
        )
    # before any message about the checkpoint
    train = sections.get('train')  # `configs` checks that it is a block
    if isinstance(train, dict) and train.get(KEY.CONTINUE):
        raise UserError(
            f'study.input_yaml: {path} has train.continue, but all methods of a '
            'study start from new weights. Remove it.'
        )
    return _with_paths(sections, os.path.dirname(os.path.abspath(path)))


def configs(sections: Config, where: str) -> tuple[Config, Config, Config]:
    """Call `inputs.from_sections`; a UserError begins with `where`."""
    try:
        found = inputs.from_sections(sections)
    except UserError as error:
        raise error.within(where) from None
    device = str((sections.get('train') or {}).get(KEY.DEVICE, 'auto'))
    if device.startswith('cuda:'):
        raise UserError(
            f'{where}: train.device: {device} is not allowed, because a study '
            'assigns a GPU to each run. Write cuda, and select GPUs with '
            'CUDA_VISIBLE_DEVICES.'
        )
    return found


def _with_paths(sections: Config, folder: str) -> Config:
    """The same sections, with paths relative to the folder of their YAML."""

    def absolute(value: Any) -> Any:
        if isinstance(value, str):
            return os.path.normpath(os.path.join(folder, value))
        if isinstance(value, list):
            return [absolute(part) for part in value]
        if isinstance(value, dict) and 'file' in value:
            return {**value, 'file': absolute(value['file'])}
        return value

    result = copy.deepcopy(sections)
    data = result.get('data')
    if isinstance(data, dict):
        for name in [n for n in data if str(n).startswith('load_')]:
            data[name] = absolute(data[name])
    return result
