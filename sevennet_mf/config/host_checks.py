"""Checks of the host's keys in a multi-fidelity YAML, stricter than the host's.

The host only warns of a key it does not know, turns `is_parity: 'no'` into True and
`weight_nn_hidden_neurons: 64` into a traceback; here each is a UserError.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import sevenn._const as const
import sevenn._keys as KEY
from ase.data import chemical_symbols
from sevenn.nn.edge_embedding import BesselBasis, PolynomialCutoff, XPLORCutoff
from sevenn.train.optim import loss_dict, optim_dict, scheduler_dict

from sevennet_mf import keys
from sevennet_mf.config.optimizer import LAST_EPOCH, SCHEDULERS
from sevennet_mf.config.places import place_of
from sevennet_mf.config.recipe import FROM_SCRATCH
from sevennet_mf.errors import UserError, nearest, unknown

Config = dict[str, Any]

# words that the host looks up without asking whether they exist
CHOICES = {
    KEY.ACTIVATION_RADIAL: const.ACTIVATION,
    KEY.READOUT_FCN_ACTIVATION: const.ACTIVATION,
    KEY.LOSS: loss_dict,
    KEY.OPTIMIZER: optim_dict,
    KEY.SCHEDULER: scheduler_dict,
}
# the same for a run with a fidelity, which we train
OURS = {**CHOICES, KEY.SCHEDULER: SCHEDULERS}
WORDS_OF_ANY_CASE = (KEY.LOSS, KEY.OPTIMIZER, KEY.SCHEDULER)
REMEDIES = {KEY.LOSS: 'train.fidelity.loss has more, for each label.'}
# the parameters of the class that another key chooses
PARAMETERS = {
    KEY.LOSS_PARAM: KEY.LOSS,
    KEY.OPTIM_PARAM: KEY.OPTIMIZER,
    KEY.SCHEDULER_PARAM: KEY.SCHEDULER,
}
# by the host or by us: the length of a cycle follows from that of the run
FILLED_IN = (
    *('params', 'optimizer', 'size_average', 'reduce'),
    *('total_steps', 'epochs', 'steps_per_epoch'),
)
POSITIVE = (
    KEY.CUTOFF,
    KEY.NODE_FEATURE_MULTIPLICITY,
    KEY.NUM_CONVOLUTION,
    KEY.EPOCH,
    KEY.PER_EPOCH,
    KEY.BATCH_SIZE,
)
NOT_NEGATIVE = (KEY.FORCE_WEIGHT, KEY.STRESS_WEIGHT, KEY.LMAX, KEY.NUM_WORKERS)
TYPE_NAMES = {dict: 'a block of keys', list: 'a list', str: 'text'}
# the parameters of these are keys of the block that names them
NAMED_LAYERS = {
    KEY.RADIAL_BASIS: {'bessel': BesselBasis},
    KEY.CUTOFF_FUNCTION: {'poly_cut': PolynomialCutoff, 'XPLOR': XPLORCutoff},
}


def section(where: str, given: Config, known: Config, conditions: Config) -> None:
    """Refuse unknown keys, and values that the host would change or fail on.

    Args:
        where: the name of the section.
        given: the section.
        known: the host's defaults.
        conditions: the host's types.

    Raises:
        UserError: A key is unknown, or a value is not valid.
    """
    for name, value in given.items():
        key = f'{where}.{name}'
        if name not in known:
            public = ['fidelity', *(k for k in known if not k.startswith('_'))]
            hint = place_of(name, where) or nearest(name, public)
            raise UserError(f'{key} is not a known key.{hint}')
        wanted = dict if isinstance(known[name], dict) else conditions.get(name)
        _type(key, value, wanted)
        if wanted in (int, float):
            if name in POSITIVE and float(value) <= 0:
                raise UserError(f'{key} must be greater than 0, got {value!r}.')
            if name in NOT_NEGATIVE and float(value) < 0:
                raise UserError(f'{key} must not be negative, got {value!r}.')
        if name in CHOICES:
            word = str(value)
            word = word.lower() if name in WORDS_OF_ANY_CASE else word
            if word not in OURS[name]:
                raise unknown(key, value, OURS[name], REMEDIES.get(name, ''))
        if name in (KEY.ACTIVATION_SCARLAR, KEY.ACTIVATION_GATE):
            _activation(key, value)
        if name in (KEY.CONTINUE, *NAMED_LAYERS):
            _nested(key, value, known[name], conditions[name])
        if name in PARAMETERS:
            chooser = PARAMETERS[name]
            word = str({**known, **given}[chooser])
            # without a name the recipe chooses its own, if the parameters are its
            own = getattr(FROM_SCRATCH, chooser)
            if chooser not in given and {*value} <= {*_taken(chooser, own)}:
                word = own
            _parameters(key, value, word)


def _taken(chooser: str, name: str) -> list[str]:
    """The parameters that a YAML may give to a class chosen by name."""
    taken = inspect.signature(OURS[chooser][name.lower()]).parameters
    return [k for k in taken if k not in FILLED_IN]


def _parameters(key: str, block: Config, name: str) -> None:
    """Raise UserError for keys that are no parameters of the block's class."""
    known = _taken(PARAMETERS[key.split('.')[-1]], name)
    if LAST_EPOCH in known:  # torch's, for a schedule that goes on
        known.remove(LAST_EPOCH)
        if block.get(LAST_EPOCH, -1) != -1:
            raise UserError(
                f'{key}.{LAST_EPOCH} cannot be used: a schedule begins with the '
                'run, and `--resume` continues it. Remove it.'
            )
    for inner in block:
        if inner not in known and inner != LAST_EPOCH:
            raise UserError(
                f'{key}.{inner} is not a known key of {name}.'
                f'{nearest(inner, known)} Known: {", ".join(known)}.'
            )


def complete(train: Any) -> None:
    """Refuse an optimiser, schedule or loss that lacks a required parameter.

    SevenNet alone would stop with an error of Python after reading all data. A
    checkpoint to continue from may have the parameter.

    Args:
        train: the section of a YAML for SevenNet alone.

    Raises:
        UserError: A parameter is missing.
    """
    if not isinstance(train, dict):
        return
    block = train.get(KEY.CONTINUE)
    if isinstance(block, dict) and block.get(KEY.CHECKPOINT):
        return
    whole = {**const.DEFAULT_TRAINING_CONFIG, **train}
    for name, chooser in PARAMETERS.items():
        word, given = str(whole[chooser]).lower(), whole[name]
        if word not in CHOICES[chooser] or not isinstance(given, dict):
            continue  # the host says so
        for needed in _needed(CHOICES[chooser][word]):
            if needed not in given:
                raise UserError(
                    f'train.{name}.{needed} is missing: {chooser} {word} needs it, '
                    "and without a fidelity block this is SevenNet's own "
                    'training, which has no default for it.'
                )


def _needed(kind: Any) -> list[str]:
    """The parameters without a default, except those that the host fills in."""
    named = inspect.signature(kind).parameters
    filled = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in named.items()
        if parameter.default is parameter.empty
        and parameter.kind not in filled
        and name not in FILLED_IN
    ]


def _type(key: str, value: Any, wanted: Any) -> None:
    if wanted is bool and not isinstance(value, bool):
        raise UserError(f'{key} must be true or false, got {value!r}.')
    if wanted in (int, float):
        kind = 'a whole number' if wanted is int else 'a number'
        try:
            if isinstance(value, bool) or float(value) != wanted(value):
                raise ValueError
        except (OverflowError, TypeError, ValueError):
            raise UserError(f'{key} must be {kind}, got {value!r}.') from None
    if wanted in TYPE_NAMES and not isinstance(value, wanted):
        # `false` is how the host says that there is none
        if value is False and wanted is not dict:
            return
        raise UserError(f'{key} must be {TYPE_NAMES[wanted]}, got {value!r}.')


def _activation(key: str, block: Config) -> None:
    for parity, word in block.items():
        if parity not in const.ACTIVATION_DICT:
            raise unknown(key, parity, const.ACTIVATION_DICT)
        if str(word) not in const.ACTIVATION_DICT[parity]:
            raise unknown(f'{key}.{parity}', word, const.ACTIVATION_DICT[parity])


def _nested(key: str, block: Config, defaults: Config, conditions: Config) -> None:
    name = key.split('.')[-1]
    layers = NAMED_LAYERS.get(name, {})
    kind = str({**defaults, **block}.get(f'{name}_name'))
    if layers and kind not in layers:
        return  # the host says so
    parameters = dict(inspect.signature(layers[kind]).parameters) if layers else {}
    parameters.pop('cutoff_length', None)  # the host fills in model.cutoff
    known = [*defaults, *parameters]
    if name == KEY.CONTINUE:  # of EWC, without a default
        known += [keys.FISHER, keys.OPT_PARAMS, keys.EWC_LAMBDA]
    for inner, value in block.items():
        if inner not in known:
            raise UserError(
                f'{key}.{inner} is not a known key.{nearest(inner, known)}'
            )
        if conditions.get(inner) is bool:
            _type(f'{key}.{inner}', value, bool)
    for inner, parameter in parameters.items():
        if parameter.default is parameter.empty and inner not in block:
            raise UserError(f'{key}.{inner} is missing: {kind} needs it.')


def continue_from(block: Config) -> None:
    """Refuse a `continue` without a checkpoint; inherit.py reads it."""
    checkpoint = block.get(KEY.CHECKPOINT)
    if not isinstance(checkpoint, str):
        raise UserError(
            f'train.{KEY.CONTINUE}.{KEY.CHECKPOINT} must be a file or a pretrained '
            f'model, got {checkpoint!r}.'
        )


def species(given: Any) -> None:
    """Refuse a symbol that is not an element; `auto` and `univ` are the host's."""
    if isinstance(given, str):
        if given.lower() == 'auto' or 'univ' in given.lower():
            return
        given = [word for word in re.split('[-, ]+', given) if word]
    if not isinstance(given, list) or not given:
        raise UserError(
            'model.chemical_species must be `auto`, `univ` or a list of elements, '
            f'got {given!r}.'
        )
    for symbol in given:
        if symbol not in chemical_symbols[1:]:  # [0] is not an element
            raise UserError(
                f'model.chemical_species: {symbol!r} is not an element.'
                f'{nearest(symbol, chemical_symbols[1:])}'
            )
