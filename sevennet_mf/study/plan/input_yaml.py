"""What input_yaml provides for all runs of a study, and how it is read."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sevenn._keys as KEY

from sevennet_mf.config import inputs
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.dataset import is_validation, sets_of
from sevennet_mf.data.reading.read import Structure, read_entry
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
    run = checked(sections, f'study.input_yaml: {path}')
    others = [name for name in run.order if name != run.target]
    if not others:
        raise UserError(
            f'study.input_yaml: {path} has only the fidelity {run.target!r}. A '
            'study compares ways to train on several: give a multi-fidelity YAML.'
        )
    if run.train.early_stopping is not None:
        raise UserError(
            f'study.input_yaml: {path} has train.fidelity.early_stopping, but all '
            'methods of a study take the same number of steps. Remove it.'
        )
    return Base(
        sections=sections,
        order=tuple(run.order),
        target=run.target,
        low=run.base if run.base != run.target else others[0],
        key=run.data.key,
        train=run.entries[TRAIN],
        valid={
            name: entries
            for name, entries in sets_of(run.host).items()
            if is_validation(name)
        },
        ratio=run.ratio,
        seed=run.seed,
        epochs=run.epochs,
        batch_size=run.batch_size,
        steps_per_epoch=run.train.steps_per_epoch,
        cutoff=run.cutoff,
        given=_given(run.data.reference_energies, run.target),
        least_steps=run.least_steps or 1,
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
    train = sections.get('train')  # `checked` sees to it that it is a block
    if isinstance(train, dict) and train.get(KEY.CONTINUE):
        raise UserError(
            f'study.input_yaml: {path} has train.continue, but all methods of a '
            'study start from new weights. Remove it.'
        )
    return _with_paths(sections, os.path.dirname(os.path.abspath(path)))


def checked(sections: Config, where: str) -> RunInputs:
    """Return what a YAML of a study asks for.

    Raises:
        UserError: If it cannot be trained on; the message begins with `where`.
    """
    try:
        run = inputs.read(sections)
    except UserError as error:
        raise error.within(where) from None
    device = str(run.host[KEY.DEVICE])
    if device.startswith('cuda:'):
        raise UserError(
            f'{where}: train.device: {device} is not allowed, because a study '
            'assigns a GPU to each run. Write cuda, and select GPUs with '
            'CUDA_VISIBLE_DEVICES.'
        )
    return run


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
