"""A run of a study before it is written, and what is where in its folder."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

from sevennet_mf.study.plan.base import configs
from sevennet_mf.study.plan.methods import Config

TRAINING: Final[str] = 'train'  # folder of a run's training, and name of its YAML
# of transfer and delta: what is made from the low model before the training
FOLDED: Final[str] = 'low_folded.pth'
DIFFERENCES: Final[tuple[str, str]] = (
    'differences/train.extxyz',
    'differences/valid.extxyz',
)


@dataclass
class Planned:
    """A run before it is written; yamls: sections by file name in its folder."""

    content: Config
    yamls: dict[str, Config] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.content['name'])


def checkpoint_name(which: str, epochs: int) -> str:
    """The file of the best or last checkpoint of a training."""
    return f'checkpoint_{"best" if which == "best" else epochs}.pth'


def check(sections: Config, where: str) -> None:
    """Raise UserError if a YAML that a study made cannot be trained on."""
    sections = copy.deepcopy(sections)
    sections['train'].pop('continue', None)  # it is there when its turn comes
    for value in sections['data'].values():
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, dict) and _is_of_differences(entry.get('file')):
                return  # and so are these
    configs(sections, where)


def _is_of_differences(file: Any) -> bool:
    # OUT itself may be anywhere: the end counts, OUT/runs/NAME/differences/...
    return str(file).endswith(tuple(f'/{name}' for name in DIFFERENCES))
