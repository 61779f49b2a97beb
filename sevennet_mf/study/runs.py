"""A run of a study: what run.json in its folder says, and what lies beside it."""

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
# of transfer and delta: what is made from the low model before the training
FOLDED: Final[str] = 'low_folded.pth'
DIFFERENCES: Final[tuple[str, str]] = (
    'differences/train.extxyz',
    'differences/valid.extxyz',
)


@dataclass(frozen=True)
class Run:
    """One model that a study trains and measures.

    name: as 'delta/n8_seed1', also its folder below OUT/runs; row: its method or
    variant in tables; method: 'low' for the model that transfer and delta build
    on; labels: structures of the target in training; needs: names of runs that
    must be done before; steps: of each training stage, those of `needs` first;
    stages: what the worker does, in order; content: all of run.json.
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
        """The folder of the study."""
        return self.folder.parents[len(Path(self.name).parts)]

    def needed(self) -> Run:
        """The one run that this one builds on."""
        (name,) = self.needs
        return read_run(self.out / 'runs' / name)


def checkpoint_name(which: str, epochs: int) -> str:
    """Return the file of the best or last checkpoint of a training."""
    return f'checkpoint_{"best" if which == "best" else epochs}.pth'


def read_run(folder: Path | str) -> Run:
    """Return the run of a folder. Raises UserError if it is none."""
    path = Path(folder).absolute() / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        return Run.of(content, path.parent)
    except FileNotFoundError:
        raise UserError(
            f'{folder} is no run of a study: it has no {RUN_FILE}.'
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} cannot be used: {error!r}.') from None
