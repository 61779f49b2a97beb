"""Checkpoint files: found, read and understood, or refused with a one-line error."""

from __future__ import annotations

import copy
import os
import re
import zipfile
from typing import Any

import sevenn
import torch
from sevenn.checkpoint import SevenNetCheckpoint, _config_cp_routine

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.shipped import find_checkpoint
from sevennet_mf.errors import UserError
from sevennet_mf.files import write_whole


def load(path: str) -> dict[str, Any]:
    """Return the dictionary of a SevenNet checkpoint file.

    Raises:
        UserError: There is no such file, it is truncated or something else, or
            reading it would run code.
    """
    if not os.path.isfile(path):
        raise UserError(f'no such file: {path}')
    try:
        content = unpickle.read(path)
    except UserError:
        raise
    except Exception:  # random bytes may raise anything in a pickle
        raise UserError(
            f'{path} is not a SevenNet checkpoint, or it is truncated.'
        ) from None
    if (
        not isinstance(content, dict)
        or not content.get('config')
        or not content.get('model_state_dict')
    ):
        raise UserError(
            f'{path} is not a SevenNet checkpoint: it lacks config or '
            'model_state_dict.'
        )
    return content


def read_checkpoint(name: str) -> tuple[str, dict[str, Any]]:
    """Return (path, content of the file) of a checkpoint that can be used here.

    Args:
        name: A path, or the name of a pretrained model.

    Raises:
        UserError: It is not a SevenNet checkpoint, truncated, from a newer version,
            or reading it would run code.
    """
    path = find_checkpoint(name)
    if is_deployed(path):
        raise UserError(
            f'{path} is a deployed model (TorchScript), not a checkpoint. Give the '
            'checkpoint it was made from.'
        )
    content = load(path)
    check_version(path, content['config'])
    return path, content


class OpenedCheckpoint(SevenNetCheckpoint):
    """SevenNet's own checkpoint, from the content of a file that has been read.

    Its own reader would run any code in the file.

    Args:
        path: The file.
        content: As `load` returns it; it stays as it is.
    """

    def __init__(self, path: str, content: dict[str, Any]) -> None:
        super().__init__(path)
        self._content = content

    def _load(self) -> None:
        content = self._content
        self._config_original = copy.deepcopy(content['config'])
        self._config = _config_cp_routine(self._config_original)
        self._model_state_dict = content['model_state_dict']
        self._optimizer_state_dict = content.get('optimizer_state_dict', {})
        self._scheduler_state_dict = content.get('scheduler_state_dict', {})
        self._epoch = content.get('epoch')
        self._time = content.get('time', 'Not found')
        self._hash = content.get('hash', 'Not found')
        self._loaded = True


def check_version(path: str, config: Any) -> None:
    """Refuse a checkpoint from a newer version.

    Raises:
        UserError: A version in `config` is newer than the installed one, or missing.
    """
    if not isinstance(config, dict) or not isinstance(config.get('version'), str):
        raise UserError(
            f'{path} is not a SevenNet checkpoint: its config does not contain the '
            'version that wrote it.'
        )
    written = {'sevenn': config['version']}
    versions = (config.get(keys.PROVENANCE) or {}).get('versions') or {}
    if 'sevennet_mf' in versions:
        written['sevennet_mf'] = versions['sevennet_mf']
    here = {'sevenn': sevenn.__version__, 'sevennet_mf': sevennet_mf.__version__}
    for package, version in written.items():
        if _numbers(version) > _numbers(here[package]):
            raise UserError(
                f'{path} was written by {package} {version}, newer than the '
                f'installed {here[package]}. Install {package} {version} to read it.'
            )


def is_deployed(path: str) -> bool:
    """Whether a file is a TorchScript archive, which torch.load would run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(n.endswith('/constants.pkl') for n in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _numbers(version: str) -> tuple[int, ...]:
    """'0.13.0.dev1' -> (0, 13, 0)."""
    return tuple(int(part) for part in re.findall(r'\d+', version)[:3])


def save(path: str, content: dict[str, Any]) -> None:
    """Write a file with torch.save; UserError as in `files.write_whole`."""
    write_whole(path, lambda stream: torch.save(content, stream))
