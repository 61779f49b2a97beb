"""A run of a study: what run.json in its folder says, and the files next to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sevennet_mf.errors import UserError
from sevennet_mf.study.status import RUN_FILE

Config = dict[str, Any]

METHODS: Final[tuple[str, ...]] = (
    'high_only',
    'transfer',
    'delta',
    'multi_fidelity',
    'host_modality',
)
# the model of the other fidelities that transfer and delta start from
LOW: Final[str] = 'low'
TWO_STAGES: Final[tuple[str, ...]] = ('transfer', 'delta')

TRAINING: Final[str] = 'train'  # folder of a run's training, and name of its YAML
# of transfer and delta: made from the low model before the training
FOLDED: Final[str] = 'low_folded.pth'
DIFFERENCES: Final[tuple[str, str]] = (
    'differences/train.extxyz',
    'differences/valid.extxyz',
)


@dataclass(frozen=True)
class Run:
    """One model that a study trains and measures.

    Attributes:
        name: Such as 'delta/n8_seed1'; also its folder below OUT/runs.
        folder: Absolute path of its folder.
        row: Its method or variant in tables.
        method: 'low' for the model that transfer and delta build on.
        labels: Number of target structures in training.
        seed: Seed of the weights, the batches and the choice of labels.
        needs: Names of runs that must be done first.
        steps: Optimiser steps of each training stage, those of `needs` first.
        stages: What the worker does, in order.
        content: All of run.json.
    """

    name: str
    folder: Path
    row: str
    method: str
    labels: int
    seed: int
    needs: tuple[str, ...]
    steps: tuple[int, ...]
    stages: tuple[Config, ...]
    content: Config

    @classmethod
    def of(cls, content: Config, folder: Path) -> Run:
        """Return the run that the content of a run.json describes."""
        return cls(
            name=content['name'],
            folder=folder,
            row=content['row'],
            method=content['method'],
            labels=content['labels'],
            seed=content['seed'],
            needs=tuple(content['needs']),
            steps=tuple(content['steps']),
            stages=tuple(content['stages']),
            content=content,
        )

    @property
    def out(self) -> Path:
        """Folder of the study."""
        return self.folder.parents[len(Path(self.name).parts)]

    def needed(self) -> Run:
        """Return the one run that this one builds on."""
        (name,) = self.needs
        return read_run(self.out / 'runs' / name)


def checkpoint_name(which: str, epochs: int) -> str:
    """Return the file name of the best or last checkpoint of a training.

    Args:
        which: 'best' or 'last'.
        epochs: Number of epochs of the training.
    """
    return f'checkpoint_{"best" if which == "best" else epochs}.pth'


def read_run(folder: Path | str) -> Run:
    """Return the run of a folder.

    Raises:
        UserError: If the folder is not that of a run.
    """
    path = Path(folder).absolute() / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        return Run.of(content, path.parent)
    except FileNotFoundError:
        raise UserError(
            f'{folder} is not a run of a study: it has no {RUN_FILE}.'
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} cannot be used: {error!r}.') from None
