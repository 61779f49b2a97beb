"""Checkpoints: written whole or not at all, read with errors that help."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

import sevenn._keys as KEY
import torch

from sevennet_mf import keys
from sevennet_mf.checkpoint_file import load
from sevennet_mf.errors import UserError

RESUME_FILE = 'checkpoint_resume.pth'
BEST_FILE = 'checkpoint_best.pth'
EARLIER = 'earlier_'
CHECKPOINT_NAME = re.compile(r'checkpoint_(\d+|best|resume)\.pth')


def write_whole(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that at `path` stands the old one or the whole new one.

    Raises UserError if the folder cannot be written or the disk is full; what
    was at `path` stays.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix='.', suffix='.part', delete=False
        ) as stream:
            temporary = stream.name
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk
        if temporary is not None:
            with suppress(OSError):
                os.remove(temporary)
        # torch's own words for a full disk say nothing
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, 'strerror', None) or str(error).splitlines()[0]
        raise UserError(
            f'{path} cannot be written: {reason}. Earlier files are untouched; '
            'free space or choose another folder.'
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save(path: str, content: dict[str, Any]) -> None:
    """torch.save, whole or not at all; UserError as in `write_whole`."""
    write_whole(path, lambda stream: torch.save(content, stream))


def set_aside(
    folder: str, names: re.Pattern[str] = CHECKPOINT_NAME, option: str = '-w'
) -> str:
    """Move an earlier run's checkpoints, or other files, into a folder of their own.

    option: that names another folder. Returns the new folder, or '' if there was no
    such file. Raises UserError if they cannot be moved.
    """
    try:
        found = [name for name in os.listdir(folder) if names.fullmatch(name)]
        if not found:
            return ''
        number = 1
        while os.path.exists(os.path.join(folder, f'{EARLIER}{number}')):
            number += 1
        place = os.path.join(folder, f'{EARLIER}{number}')
        os.mkdir(place)
        for name in found:
            os.rename(os.path.join(folder, name), os.path.join(place, name))
    except OSError as error:
        raise UserError(
            f'what an earlier run wrote in {folder} cannot be moved aside: '
            f'{error.strerror}. Choose another folder with {option}.'
        ) from None
    return place


def tidy(folder: str) -> None:
    """Remove what a killed run left half written."""
    for name in os.listdir(folder):
        if name.startswith('.') and name.endswith('.part'):
            with suppress(OSError):
                os.remove(os.path.join(folder, name))


def is_set_aside(path: str, folder: str) -> bool:
    """Whether `set_aside` moves what lies at a path."""
    place, name = os.path.split(os.path.abspath(path))
    here = os.path.realpath(place) == os.path.realpath(folder)
    return here and CHECKPOINT_NAME.fullmatch(name) is not None


def began_with(folder: str) -> dict[str, Any]:
    """Return the configuration of the run in a folder that is to be resumed.

    Raises UserError if there is none.
    """
    saved = load_training_state(os.path.join(folder, RESUME_FILE))
    return dict(saved['config'])


def follow(
    sections: dict[str, Any], began: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Return a YAML that names the checkpoint its run began from where it now lies.

    A run that continues from a checkpoint of its own output folder has set it aside,
    and its configuration, `began`, says where.
    """
    train: Any = sections.get('train')
    block: Any = train.get(KEY.CONTINUE) if isinstance(train, dict) else None
    path = block.get(KEY.CHECKPOINT) if isinstance(block, dict) else None
    if not isinstance(path, str) or not is_set_aside(path, folder):
        return sections
    began_from = began[KEY.CONTINUE][KEY.CHECKPOINT] or ''
    # by their names: the whole folder may have been moved since
    place, name = os.path.split(began_from)
    place = os.path.basename(place)
    now = os.path.join(folder, place, name)
    if not place.startswith(EARLIER) or not os.path.isfile(now):
        return sections
    block = {**block, KEY.CHECKPOINT: now}
    return {**sections, 'train': {**train, KEY.CONTINUE: block}}


def load_training_state(path: str) -> dict[str, Any]:
    """As `load`, for a file that `--resume` can go on from."""
    content = load(path)
    if keys.TRAINING_STATE not in content:
        raise UserError(
            f'{path} holds weights only; --resume needs a {RESUME_FILE} that '
            'training wrote.'
        )
    return content
