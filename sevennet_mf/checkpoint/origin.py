"""The checkpoint that something starts from, opened once and described."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.checkpoint.file import OpenedCheckpoint, read_checkpoint
from sevennet_mf.errors import UserError

Config = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Origin:
    """A checkpoint that a model starts from, for all that need to know about it.

    Attributes:
        name: As the user wrote it.
        path: The file.
        content: What is in the file.
        config: The host's, with defaults filled in.
        names: Its fidelities by their index in the model, as the run calls them;
            empty for a model of one fidelity without a name.
    """

    name: str
    path: str
    content: Config
    config: Config
    names: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is a model of one fidelity."""
        return not self.config.get(KEY.USE_MODALITY)

    @property
    def epoch(self) -> int:
        """The epoch that it has reached."""
        return int(self.content.get('epoch') or 0)

    @property
    def provenance(self) -> Config:
        """What training wrote about itself; empty for the host's files."""
        return dict(self.config.get(keys.PROVENANCE) or {})

    @property
    def fidelity(self) -> Config:
        """Of a model of several fidelities: what `model.fidelity` would contain."""
        config = self.config
        own_scale = config.get(KEY.USE_MODAL_WISE_SCALE)
        return {
            'encoding': 'bias',  # SevenNet's own modality
            'sites': [s for s, key in keys.SITE_SWITCH.items() if config.get(key)],
            'scale': 'per_fidelity' if own_scale else 'shared',
            **(config.get(keys.FIDELITY_MODEL) or {}),
        }


def open_origin(name: str) -> Origin:
    """Return a checkpoint, by path or by pretrained name.

    Raises:
        UserError: It is not a checkpoint, is from a newer version, or cannot be
            read.
    """
    path, content = read_checkpoint(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            config = OpenedCheckpoint(path, content).config
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{path}: its configuration cannot be read: {error}.'
        ) from None
    return Origin(name, path, content, config, names_in(config))


def names_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fidelities in a checkpoint's configuration, by their index.

    Empty for a plain model without a name.
    """
    if config.get(KEY.USE_MODALITY):
        return tuple(keys.by_index(config[KEY.MODAL_MAP]))
    named = (config.get(keys.PROVENANCE) or {}).get('fidelities') or []
    return (str(named[0]),) if len(named) == 1 else ()
