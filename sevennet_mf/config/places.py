"""Where a key of the YAML belongs, for one that stands somewhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import sevenn._const as const
import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.config.blocks import (
    Block,
    DataEntry,
    DataFidelity,
    ModelFidelity,
    TrainFidelity,
)
from sevennet_mf.errors import UserError

Config = dict[str, Any]
OURS: Final[dict[str, type[Block]]] = {
    'model.fidelity': ModelFidelity,
    'train.fidelity': TrainFidelity,
    'data.fidelity': DataFidelity,
    'an entry of data.load_trainset_path': DataEntry,
}
WITHIN: Final = ' It belongs within a section, as in train.fidelity.'


def place_of(name: str, where: str = '') -> str:
    """Return ' It belongs to train.fidelity.' or the like; '' for an unknown key.

    Args:
        name: A key.
        where: The block in which it stands.
    """
    if name == 'fidelity':
        return '' if where else WITHIN
    if keys.is_load_path(name):
        return '' if where == 'data' else ' It belongs to data.'
    found = [place for place, known in _places() if name in known]
    # of the same section first: `scale` of model and of data
    found.sort(key=lambda place: not place.startswith(where.partition('.')[0]))
    return f' It belongs to {" or ".join(found)}.' if found else ''


def refuse_misplaced(block: Collection[str], where: str) -> None:
    """Refuse keys of a `fidelity` block that belong to another block.

    Args:
        block: Its keys.
        where: Its path.

    Raises:
        UserError: One of them does; other unknown keys are left to `validate`.
    """
    for name in block:
        place = place_of(str(name), where)
        if place and name not in OURS[where].model_fields:
            raise UserError(f'is not a known key.{place}', f'{where}.{name}')


def refuse_ours(sections: Config, except_for: Collection[str] = ()) -> None:
    """Refuse words of `fidelity` blocks in the sections of a YAML without them.

    Args:
        sections: Of the YAML.
        except_for: Paths of keys that are dealt with elsewhere.

    Raises:
        UserError: There is one, which SevenNet would only warn of.
    """
    places = dict(_places())
    for name, block in sections.items():
        own = f'{name}.fidelity'
        for key in block if isinstance(block, dict) and own in OURS else ():
            path = f'{name}.{key}'
            is_theirs = key in places[name] or path in except_for
            if key in OURS[own].model_fields and not is_theirs:
                raise UserError(
                    'is not a key of SevenNet, which would ignore it. It belongs to '
                    f'{own}.',
                    path,
                )


def _places() -> Iterator[tuple[str, Collection[str]]]:
    """Each block of the YAML and its keys."""
    model = const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
    for section, names in (
        ('model', [KEY.CHEMICAL_SPECIES, *model]),
        ('train', [KEY.DEVICE, *const.DEFAULT_TRAINING_CONFIG]),
        ('data', [*const.DEFAULT_DATA_CONFIG]),
    ):
        yield section, [name for name in names if not name.startswith('_')]
    for place, block in OURS.items():
        yield place, block.model_fields.keys()

