"""What a YAML takes over from the checkpoint that training continues from.

Architecture and fidelities come from there: keys that are left out are filled in,
those that say something else are errors. Fidelities of the YAML that the checkpoint
lacks are added to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sevenn._const as const
import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.checkpoint.file import OpenedCheckpoint, read_checkpoint
from sevennet_mf.config import host_checks
from sevennet_mf.config.blocks import DataFidelity, ModelFidelity, TrainFidelity
from sevennet_mf.config.recipe import Origin, Recipe
from sevennet_mf.errors import UserError, unknown

Config = dict[str, Any]
WHERE: Final = 'train.continue.checkpoint'
KNOWN_AS: Final = 'train.fidelity.known_as'
START_FROM: Final = 'train.fidelity.start_from'
# of the host's model keys those that are no architecture: what the data set, how it
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
# what means something only beside a checkpoint
NEEDS_CHECKPOINT: Final = ('known_as', 'start_from', 'update', 'replay', 'max_drift')


@dataclass(frozen=True)
class Inherited:
    """The checkpoint that `continue` names.

    name: as the YAML has it; config: the host's, defaults filled in; names: its
    fidelities by their index in the model; none for a plain model that nobody named;
    epoch: the one it has reached; states: keys of the file with the state of an
    optimiser or a scheduler.
    """

    name: str
    config: Config
    names: tuple[str, ...]
    epoch: int = 0
    states: tuple[str, ...] = ()

    def origin(self, options: Config, of: Recipe) -> Origin:
        """What this is to the recipe of a run; options: the block `continue`."""

        def going_on(reset: str) -> Config | None:
            is_used = STATES[reset] in self.states and not options.get(reset)
            return self.config if is_used else None

        return Origin(
            of,
            0 if options.get(KEY.RESET_EPOCH) else self.epoch,
            going_on(KEY.RESET_OPTIMIZER),
            going_on(KEY.RESET_SCHEDULER),
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is a model of one fidelity."""
        return not self.config.get(KEY.USE_MODALITY)


def read(section: Config, train: TrainFidelity) -> Inherited | None:
    """Return the checkpoint of a YAML's `train` section; None if it has none.

    Raises UserError for a file that cannot be used, and for keys that need one.
    """
    block = section.get(KEY.CONTINUE)
    name = block.get(KEY.CHECKPOINT) if isinstance(block, dict) else None
    if not isinstance(name, str):
        for key in _given(train):
            raise UserError(
                f'train.fidelity.{key} needs a checkpoint to start from. Name one '
                f'in {WHERE}, or take the key out.'
            )
        return None  # whatever else is wrong with it, host_checks.py says
    host_checks.section(  # before what the checkpoint would have to say
        'train',
        {KEY.CONTINUE: block},
        const.DEFAULT_TRAINING_CONFIG,
        const.TRAINING_CONFIG_CONDITION,
    )
    try:
        path, content = read_checkpoint(name)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            config = OpenedCheckpoint(path, content).config
    except UserError as error:
        raise error.within(WHERE) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{path}: its configuration cannot be read: {error}.', where=WHERE
        ) from None
    own = content['config']
    assert isinstance(block, dict)
    if block.get(KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT) is False:
        own = {}  # transfer learning: whatever it is called, it is not kept
    return Inherited(
        name,
        config,
        _names(name, config, own, train),
        int(content.get('epoch') or 0),
        tuple(key for key in STATES.values() if content.get(key)),
    )


def _names(
    checkpoint: str, config: Config, own: Config, train: TrainFidelity
) -> tuple[str, ...]:
    if config.get(KEY.USE_MODALITY):
        names = tuple(keys.by_index(config[KEY.MODAL_MAP]))
        if train.known_as is not None:
            raise UserError(
                f': {train.known_as!r} is for a checkpoint of one fidelity; '
                f'{checkpoint} has {list(names)}. Take it out.',
                KNOWN_AS,
            )
        return names
    named = (own.get(keys.PROVENANCE) or {}).get('fidelities') or []
    name = train.known_as or (str(named[0]) if len(named) == 1 else None)
    return () if name is None else (name,)


def fill_model(section: Config, found: Inherited) -> Config:
    """Return the YAML's `model` section with the checkpoint's architecture.

    Raises UserError for a key that contradicts it.
    """
    filled = dict(section)
    # of the elements train/start.py knows more
    for key in const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG:
        theirs = found.config.get(key)
        if key in NOT_INHERITED or theirs is None:
            continue
        ours = section.get(key)
        if ours is not None and not _agrees(ours, theirs):
            raise UserError(
                f'model.{key} is {ours!r}, but {found.name} has {theirs!r}. Take it '
                'out of the YAML: the architecture comes from the checkpoint.'
            )
        filled[key] = theirs  # of a block the YAML may have a part
    return filled


def _agrees(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(k in theirs and _agrees(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return [str(x) for x in ours] == [str(x) for x in theirs]
    return bool(ours == theirs)


def check_frozen(section: Config, train: TrainFidelity) -> None:
    """UserError for what the `model` section trains beside `fidelity_only`."""
    for key in (KEY.TRAIN_SHIFT_SCALE, KEY.TRAIN_DENOMINTAOR):
        if section.get(key) and train.update == 'fidelity_only':
            raise UserError(
                f'model.{key}: {section[key]!r} has no effect with '
                'train.fidelity.update: fidelity_only, which trains weights at '
                'model.fidelity.sites only. Take one of the two out.'
            )


def check_transfer(train: TrainFidelity) -> None:
    """UserError for what says something of fidelities that are not kept."""
    for key in _given(train):
        raise UserError(
            f'train.fidelity.{key} is about a fidelity of the checkpoint, and with '
            'train.continue.use_statistic_values_of_checkpoint: false none is kept. '
            'Take one of the two out.'
        )


def fill_fidelity(block: ModelFidelity, found: Inherited) -> ModelFidelity:
    """Return `model.fidelity` with what the checkpoint's fidelities have."""
    if found.is_plain:
        return block
    config = found.config
    theirs: Config = {
        'encoding': 'bias',  # SevenNet's own modality
        'sites': [s for s, key in keys.SITE_SWITCH.items() if config.get(key)],
        'scale': 'shared',
    }
    if config.get(KEY.USE_MODAL_WISE_SCALE):
        theirs['scale'] = 'per_fidelity'
    theirs |= config.get(keys.FIDELITY_MODEL) or {}
    missing = {k: v for k, v in theirs.items() if k not in block.model_fields_set}
    return block.model_copy(update=missing)


def order_of(
    found: Inherited,
    train: TrainFidelity,
    data: DataFidelity,
    named: Sequence[str],
) -> list[str] | None:
    """Return all fidelities from low to high, or None if the YAML's are as they are.

    named: those of the training files. The checkpoint's come first, unless
    data.fidelity.order says otherwise. Raises UserError for names that cannot be
    meant.
    """
    wanted = list(dict.fromkeys([*(data.order or ()), *named]))
    if not found.names:
        if len(wanted) > 1 or _of_old(train):
            raise UserError(
                f'is missing: {found.name} has one fidelity, without a name. Say '
                f'which of {wanted} it is, or give another name if it is none of '
                'them.',
                KNOWN_AS,
            )
        return None
    added = [name for name in wanted if name not in found.names]
    for name in added:
        same = [old for old in found.names if old.lower() == name.lower()]
        if same:
            raise UserError(
                f'{name!r} differs from {same[0]!r} of {found.name} in case only. '
                f'Write {same[0]!r} to train that one, or choose another name.'
            )
    if not added:
        _check_further(found, train, data, wanted)
        return None
    lacking = [name for name in found.names if data.order and name not in data.order]
    if lacking:
        raise UserError(
            f'data.fidelity.order lacks {lacking}, which {found.name} has. Add '
            'them, or leave the order out.'
        )
    return data.order or [*found.names, *added]


def _check_further(
    found: Inherited, train: TrainFidelity, data: DataFidelity, wanted: list[str]
) -> None:
    """UserError for what has no meaning where fidelities are trained further."""
    if train.known_as is not None:
        raise UserError(
            f': {train.known_as!r} exists already: the data names it too, and '
            'nothing is added. Give the new level of theory another name, or take '
            'known_as out to go on with one.',
            KNOWN_AS,
        )
    if train.start_from is not None:
        raise UserError(
            f': {train.start_from!r} is what an added fidelity begins as, and '
            f'nothing is added: {found.name} has {list(found.names)}. Take it out, '
            'or give the data another name.',
            START_FROM,
        )
    asked = _of_old(train)
    if len(found.names) == 1 and asked:
        raise UserError(
            f'train.fidelity.{asked[0]} is about fidelities beside the one that '
            f'trains, and {found.name} has {found.names[0]!r} only. Take it out, or '
            'give the data another name to add a fidelity.'
        )
    if data.order is None and len(wanted) < len(found.names):
        raise UserError(
            f'data.fidelity.order is missing: {found.name} has {list(found.names)}, '
            f'and the data names {wanted} only. List all of them from low to high.'
        )


def _given(train: TrainFidelity) -> list[str]:
    """The keys of NEEDS_CHECKPOINT that the YAML gives."""
    return [k for k in NEEDS_CHECKPOINT if getattr(train, k) not in (None, 'all')]


def _of_old(train: TrainFidelity) -> list[str]:
    """Of these the ones that say something of an old fidelity beside another."""
    return [key for key in _given(train) if key != 'known_as']


def check_old(found: Inherited, train: TrainFidelity, data: DataFidelity) -> None:
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
