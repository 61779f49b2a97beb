"""What a YAML takes over from the checkpoint from which training continues.

Architecture and fidelities come from there: missing keys are filled in, and keys
with another value are errors. Fidelities of the YAML that the checkpoint lacks are
added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import sevenn._const as const
import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.checkpoint.origin import Origin, names_in, open_origin
from sevennet_mf.config import compatible, host_checks
from sevennet_mf.config.blocks import DataFidelity, ModelFidelity, TrainFidelity
from sevennet_mf.config.compatible import KNOWN_AS, START_FROM
from sevennet_mf.config.recipe import Recipe, StartingPoint
from sevennet_mf.errors import UserError, unknown

Config = dict[str, Any]
# the host's model keys that are not architecture: what the data set, how the model
# is trained, and what computes it
NOT_INHERITED: Final = (
    KEY.CONV_DENOMINATOR,
    KEY.TRAIN_DENOMINTAOR,
    KEY.TRAIN_SHIFT_SCALE,
    KEY._NORMALIZE_SPH,
    KEY.USE_FLASH_TP,
    KEY.CUEQUIVARIANCE_CONFIG,
    KEY.USE_OEQ,
    keys.FIDELITY_MODEL,
    *keys.SITE_SWITCH.values(),
)
# the host's option that leaves a state in the checkpoint, and its key there
STATES: Final = {
    KEY.RESET_OPTIMIZER: 'optimizer_state_dict',
    KEY.RESET_SCHEDULER: 'scheduler_state_dict',
}


def read(
    section: Config, train: TrainFidelity, opened: Origin | None = None
) -> Origin | None:
    """Return the checkpoint of a YAML's `train` section; None if it has none.

    Args:
        opened: a checkpoint that is open already; used if it is the one.

    Raises:
        UserError: The file cannot be used, or is missing and a key needs it.
    """
    block = section.get(KEY.CONTINUE)
    name = block.get(KEY.CHECKPOINT) if isinstance(block, dict) else None
    if not isinstance(name, str):
        compatible.check_needed(train)
        return None  # whatever else is wrong with it, host_checks.py says
    host_checks.section(  # before what the checkpoint would have to say
        'train',
        {KEY.CONTINUE: block},
        const.DEFAULT_TRAINING_CONFIG,
        const.TRAINING_CONFIG_CONDITION,
    )
    if opened is None or opened.name != name:
        try:
            opened = open_origin(name)
        except UserError as error:
            raise error.within(compatible.WHERE) from None
    assert isinstance(block, dict)
    return as_called(opened, train, not is_transfer(block))


def as_called(
    origin: Origin, train: TrainFidelity, keeps_name: bool = True
) -> Origin:
    """Return a checkpoint with its fidelities as the YAML calls them.

    Args:
        keeps_name: whether the fidelity of a plain model keeps its name in the file.
    """
    names = names_in(origin.config)
    if not origin.is_plain:
        if train.known_as is not None:
            raise UserError(
                f': {train.known_as!r} is for a checkpoint with one fidelity; '
                f'{origin.name} has {list(names)}. Remove it.',
                KNOWN_AS,
            )
    elif train.known_as is not None:
        names = (train.known_as,)
    elif not keeps_name:
        names = ()
    return replace(origin, names=names)


def is_transfer(options: Config) -> bool:
    """Whether `continue` keeps no fidelity, as labels are of another level."""
    return options.get(KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT) is False


def starting_point(found: Origin, options: Config, of: Recipe) -> StartingPoint:
    """Return what a run starts from, as the recipe needs it.

    Args:
        options: the block `continue`.
        of: the recipe of the run.
    """

    def going_on(reset: str) -> Config | None:
        is_used = found.content.get(STATES[reset]) and not options.get(reset)
        return found.config if is_used else None

    return StartingPoint(
        of,
        0 if options.get(KEY.RESET_EPOCH) else found.epoch,
        going_on(KEY.RESET_OPTIMIZER),
        going_on(KEY.RESET_SCHEDULER),
    )


def fill_model(section: Config, found: Origin) -> Config:
    """Return the YAML's `model` section with the checkpoint's architecture.

    Raises:
        UserError: A key contradicts it.
    """
    filled = dict(section)
    # compatible.py checks the elements
    for key in const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG:
        theirs = found.config.get(key)
        if key in NOT_INHERITED or theirs is None:
            continue
        ours = section.get(key)
        if ours is not None and not _agrees(ours, theirs):
            raise UserError(
                f'model.{key} is {ours!r}, but {found.name} has {theirs!r}. Remove '
                'it from the YAML: the architecture comes from the checkpoint.'
            )
        filled[key] = theirs  # the YAML may have only a part of a block
    return filled


def _agrees(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(k in theirs and _agrees(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return [str(x) for x in ours] == [str(x) for x in theirs]
    return bool(ours == theirs)


def fill_fidelity(block: ModelFidelity, found: Origin) -> ModelFidelity:
    """Return `model.fidelity`, completed from the checkpoint's fidelities."""
    if found.is_plain:
        return block
    given = block.model_fields_set
    missing = {k: v for k, v in found.fidelity.items() if k not in given}
    return block.model_copy(update=missing)


def order_of(
    found: Origin,
    train: TrainFidelity,
    data: DataFidelity,
    named: Sequence[str],
) -> list[str] | None:
    """Return all fidelities from low to high, or None if none is added.

    The checkpoint's come first, unless data.fidelity.order says otherwise.

    Args:
        named: those of the training files.

    Raises:
        UserError: The names do not fit the checkpoint.
    """
    wanted = list(dict.fromkeys([*(data.order or ()), *named]))
    if not found.names:
        if len(wanted) > 1 or compatible.of_old(train):
            raise UserError(
                f'is missing: {found.name} has one fidelity, without a name. Set it '
                f'to one of {wanted}, or to another name if none of them fits.',
                KNOWN_AS,
            )
        return None
    added = [name for name in wanted if name not in found.names]
    for name in added:
        same = [old for old in found.names if old.lower() == name.lower()]
        if same:
            raise UserError(
                f'{name!r} differs from {same[0]!r} of {found.name} only in case. '
                f'Write {same[0]!r} to train that one, or choose another name.'
            )
    if not added:
        compatible.check_further(found, train, data, wanted)
        return None
    lacking = [name for name in found.names if data.order and name not in data.order]
    if lacking:
        raise UserError(
            f'data.fidelity.order lacks {lacking}, which {found.name} has. Add '
            'them, or leave the order out.'
        )
    return data.order or [*found.names, *added]


def check_old(found: Origin, train: TrainFidelity, data: DataFidelity) -> None:
    """Complete and check base, start_from and replay, which name old fidelities."""
    old = list(found.names)
    if data.base is None:
        data.base = next(name for name in data.order or old if name in old)
    named = {
        'data.fidelity.base': data.base,
        START_FROM: train.start_from,
        'train.fidelity.replay.fidelity': getattr(train.replay, 'fidelity', None),
    }
    for key, name in named.items():
        if name is not None and name not in old:
            raise unknown(key, name, old, f'{found.name} has no others.')
