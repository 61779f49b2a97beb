"""What must agree between a YAML and the checkpoint from which it continues."""

from __future__ import annotations

from typing import Any, Final

import sevenn._keys as KEY
from sevenn.scripts.processing_continue import check_config_compatible

from sevennet_mf import keys
from sevennet_mf.checkpoint.origin import Origin
from sevennet_mf.config.blocks import DataFidelity, TrainFidelity
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.errors import UserError

Config = dict[str, Any]
WHERE: Final = 'train.continue.checkpoint'
KNOWN_AS: Final = 'train.fidelity.known_as'
START_FROM: Final = 'train.fidelity.start_from'
# keys that need a checkpoint
NEEDS_CHECKPOINT: Final = ('known_as', 'start_from', 'update', 'replay', 'max_drift')


def check_needed(train: TrainFidelity) -> None:
    """Raise UserError for keys that need a checkpoint, in a YAML without one."""
    for key in _given(train):
        raise UserError(
            f'train.fidelity.{key} needs a checkpoint to start from. Name one '
            f'in {WHERE}, or remove the key.'
        )


def check_frozen(section: Config, train: TrainFidelity) -> None:
    """Raise UserError for keys of `model` that `fidelity_only` leaves untrained."""
    for key in (KEY.TRAIN_SHIFT_SCALE, KEY.TRAIN_DENOMINTAOR):
        if section.get(key) and train.update == 'fidelity_only':
            raise UserError(
                f'model.{key}: {section[key]!r} has no effect with '
                'train.fidelity.update: fidelity_only, which trains weights at '
                'model.fidelity.sites only. Remove one of the two.'
            )


def check_transfer(train: TrainFidelity) -> None:
    """Raise UserError for keys about old fidelities, of which none is kept."""
    for key in _given(train):
        raise UserError(
            f'train.fidelity.{key} refers to a fidelity of the checkpoint, but with '
            'train.continue.use_statistic_values_of_checkpoint: false none is kept. '
            'Remove one of the two.'
        )


def check_further(
    found: Origin, train: TrainFidelity, data: DataFidelity, wanted: list[str]
) -> None:
    """Raise UserError for keys about added fidelities, where none is added."""
    if train.known_as is not None:
        raise UserError(
            f': {train.known_as!r} is also a fidelity of the data, so nothing '
            'would be added. Give the new level of theory another name, or '
            'remove known_as to continue with one fidelity.',
            KNOWN_AS,
        )
    if train.start_from is not None:
        raise UserError(
            f': {train.start_from!r} is where an added fidelity starts from, but '
            f'none is added: {found.name} has {list(found.names)}. Remove it, or '
            'give the data another name.',
            START_FROM,
        )
    asked = of_old(train)
    if len(found.names) == 1 and asked:
        raise UserError(
            f'train.fidelity.{asked[0]} refers to fidelities other than the one '
            f'that is trained, and {found.name} has only {found.names[0]!r}. Remove '
            'it, or give the data another name to add a fidelity.'
        )
    if data.order is None and len(wanted) < len(found.names):
        raise UserError(
            f'data.fidelity.order is missing: {found.name} has {list(found.names)}, '
            f'but the data have only {wanted}. List all of them from low to high.'
        )


def _given(train: TrainFidelity) -> list[str]:
    """The keys of NEEDS_CHECKPOINT that the YAML gives."""
    return [k for k in NEEDS_CHECKPOINT if getattr(train, k) not in (None, 'all')]


def of_old(train: TrainFidelity) -> list[str]:
    """Return the given keys that refer to an old fidelity beside a trained one."""
    return [key for key in _given(train) if key != 'known_as']


def check(inputs: RunInputs) -> None:
    """Raise UserError unless the YAML's model can start from its checkpoint.

    model/extend.py checks what an extended model cannot hold.
    """
    found = inputs.origin
    if found is None:
        return
    _check_names(found, inputs)
    try:
        check_config_compatible(inputs.host, found.config)
    except ValueError as error:
        raise UserError(f'train.continue: {found.path}: {error}') from None
    if not found.is_plain and not inputs.added:
        _check_layers(found, inputs)
    _check_references(found, inputs)
    _refuse_ignored(found, inputs)


def _check_names(found: Origin, inputs: RunInputs) -> None:
    ours = set(inputs.order)
    several = not found.is_plain
    theirs = set(found.config[KEY.MODAL_MAP]) if several else set()
    keeps = inputs.host[KEY.CONTINUE][KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT]
    if not keeps and (several or len(ours) > 1):
        raise UserError(
            'train.continue.use_statistic_values_of_checkpoint: false is for '
            'training a model with one fidelity on labels of another level of '
            f'theory; {found.path} has the fidelities '
            f'{sorted(theirs) or "none"}, the YAML has {sorted(ours)}. Remove '
            'the key to continue with these.'
        )
    if not inputs.added and ours != theirs and (several or len(ours) > 1):
        raise UserError(
            f'train.continue: {found.path} has the fidelities '
            f'{sorted(theirs) or "none"}, but the YAML has {sorted(ours)}. They '
            'must be the same to continue.'
        )


def _check_layers(found: Origin, inputs: RunInputs) -> None:
    """Raise UserError unless the weights of each fidelity have the same form."""
    ours, theirs = inputs.model, found.fidelity
    names = ['encoding', 'rank'] if ours.encoding == 'lora' else ['encoding']
    for name in names:
        own = getattr(ours, name)
        if own != theirs.get(name):
            raise UserError(
                f'train.continue: {found.path} has the {name} '
                f'{theirs.get(name)!r}, but model.fidelity.{name} is '
                f'{own!r}. Make them equal.'
            )
    sites = [
        [s for s, switch in keys.SITE_SWITCH.items() if c.get(switch, False)]
        for c in (found.config, inputs.host)
    ]
    if sites[0] != sites[1]:
        raise UserError(
            f'train.continue: {found.path} was trained with the sites '
            f'{sites[0]}, but model.fidelity.sites is {sites[1]}. Make them equal.'
        )


def _check_references(found: Origin, inputs: RunInputs) -> None:
    """Raise UserError for reference energies that the YAML cannot set."""
    given = inputs.data.reference_energies
    if not inputs.added:
        names = ['']  # of whatever fidelity
    elif given == 'independent':
        raise UserError(
            "data.fidelity.reference_energies: 'independent' cannot be combined "
            'with a checkpoint to which fidelities are added: theirs are fitted '
            'to the difference between labels and its predictions. Remove the '
            'key.'
        )
    else:
        names = [f'.{name}' for name in given if name in inputs.old]
    if isinstance(given, dict) and names:
        raise UserError(
            f'data.fidelity.reference_energies{names[0]} comes from {found.path}'
            f'{"" if inputs.added else " when training continues from it"}. Remove '
            'it from the YAML.'
        )


def _refuse_ignored(found: Origin, inputs: RunInputs) -> None:
    """Raise UserError for keys whose values come from the checkpoint."""
    host = inputs.host
    known = ('auto', found.config[KEY.TYPE_MAP])
    given = {
        'data.scale': not isinstance(host[KEY.SCALE], str),
        'model.conv_denominator': not isinstance(host[KEY.CONV_DENOMINATOR], str),
        'model.chemical_species': host[KEY.TYPE_MAP] not in known,
    }
    for name, is_given in given.items():
        if is_given:
            raise UserError(
                f'{name} comes from {found.path} when training continues from '
                'it. Remove it from the YAML.'
            )
