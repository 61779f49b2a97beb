"""The output folder of a training: its checkpoints, and how to resume from them."""

from __future__ import annotations

import os
import re
from typing import Any

import sevenn._keys as KEY

from sevennet_mf import files, keys
from sevennet_mf.checkpoint.file import load
from sevennet_mf.errors import UserError
from sevennet_mf.files import EARLIER

RESUME_FILE = 'checkpoint_resume.pth'
BEST_FILE = 'checkpoint_best.pth'
CHECKPOINT_NAME = re.compile(r'checkpoint_(\d+|best|resume)\.pth')


def set_aside(folder: str) -> str:
    """Move an earlier run's checkpoints aside; see `files.set_aside`."""
    return files.set_aside(folder, CHECKPOINT_NAME, '-w')


def is_set_aside(path: str, folder: str) -> bool:
    """Whether `set_aside` moves the file at a path."""
    place, name = os.path.split(os.path.abspath(path))
    here = os.path.realpath(place) == os.path.realpath(folder)
    return here and CHECKPOINT_NAME.fullmatch(name) is not None


def began_with(folder: str) -> dict[str, Any]:
    """Return the configuration of the run in a folder that is to be resumed.

    Raises:
        UserError: There is none.
    """
    saved = load_training_state(os.path.join(folder, RESUME_FILE))
    return dict(saved['config'])


def follow(
    sections: dict[str, Any], began: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Return a YAML with the present path of the checkpoint its run began from.

    A run that continues from a checkpoint of its own output folder has set it aside,
    and its configuration says where.

    Args:
        sections: the YAML.
        began: the configuration of the run.
        folder: the output folder.
    """
    train: Any = sections.get('train')
    block: Any = train.get(KEY.CONTINUE) if isinstance(train, dict) else None
    path = block.get(KEY.CHECKPOINT) if isinstance(block, dict) else None
    if not isinstance(path, str) or not is_set_aside(path, folder):
        return sections
    began_from = began[KEY.CONTINUE][KEY.CHECKPOINT] or ''
    # by name: the whole folder may have been moved since
    place, name = os.path.split(began_from)
    place = os.path.basename(place)
    now = os.path.join(folder, place, name)
    if not place.startswith(EARLIER) or not os.path.isfile(now):
        return sections
    block = {**block, KEY.CHECKPOINT: now}
    return {**sections, 'train': {**train, KEY.CONTINUE: block}}


def load_training_state(path: str) -> dict[str, Any]:
    """Return the content of a checkpoint from which `--resume` can continue.

    Raises:
        UserError: There is no such file, it cannot be used, or it contains only
            weights.
    """
    if not os.path.isfile(path):
        raise UserError(
            f'no such file: {path}. Name the folder of the interrupted run with -w, '
            'or leave out --resume to start a new one.'
        )
    content = load(path)
    if keys.TRAINING_STATE not in content:
        raise UserError(
            f'{path} contains only weights; --resume needs a {RESUME_FILE} '
            'written by training.'
        )
    return content
