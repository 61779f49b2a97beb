"""Where a checkpoint is: a path, or a pretrained model's name. No downloads."""

from __future__ import annotations

import os
from typing import Final

import sevenn._const as const

from sevennet_mf.errors import UserError, nearest, nearest_file

# The host's names and the constant with the path of each file. Its own look-up
# downloads what is missing.
PRETRAINED: Final[dict[str, str]] = {
    '7net-0': 'SEVENNET_0_11Jul2024',
    '7net-0_11jul2024': 'SEVENNET_0_11Jul2024',
    '7net-0_11july2024': 'SEVENNET_0_11Jul2024',
    '7net-0_22may2024': 'SEVENNET_0_22May2024',
    '7net-l3i5': 'SEVENNET_l3i5',
    '7net-mf-0': 'SEVENNET_MF_0',
    '7net-mf-ompa': 'SEVENNET_MF_ompa',
    '7net-omat': 'SEVENNET_omat',
    '7net-omni': 'SEVENNET_omni',
    '7net-omni-i8': 'SEVENNET_omni_i8',
    '7net-omni-i12': 'SEVENNET_omni_i12',
}
CACHE: Final[str] = '~/.cache/sevennet'  # where the host puts what it downloads


def find_checkpoint(name: str) -> str:
    """Return the path of a checkpoint: `name` itself, or a pretrained model's.

    Nothing is downloaded.

    Raises:
        UserError: There is neither.
    """
    if os.path.isfile(name):
        return name
    short = str(name).lower().replace('sevennet-', '7net-', 1)
    if short in PRETRAINED:
        own = str(getattr(const, PRETRAINED[short]))
        for path in (own, own.replace(const._prefix, os.path.expanduser(CACHE))):
            if os.path.isfile(path):
                return path
        raise UserError(
            f'the pretrained model {name} is not on this machine, and nothing is '
            f'downloaded here. Fetch it with `sevenn checkpoint {short}`, or give '
            'the path of a checkpoint.'
        )
    if os.path.isdir(name):
        raise UserError(f'{name} is a folder; give the path of a checkpoint in it.')
    hint = nearest_file(name) or nearest(short, PRETRAINED)
    present = [
        n for n, c in PRETRAINED.items() if os.path.isfile(str(getattr(const, c)))
    ]
    others = [n for n in PRETRAINED if n not in present]
    raise UserError(
        f'no such file: {name}.{hint} Give the path of a checkpoint, or one of '
        f'{present}; {others} must be downloaded: `sevenn checkpoint <name>`.'
    )
