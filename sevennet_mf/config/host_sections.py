"""The host's part of a multi-fidelity YAML, from the host's own section readers.

host_checks.py runs first, and the nested defaults of the host are copied, never
shared.
"""

from __future__ import annotations

import copy
import re
import warnings
from contextlib import suppress
from typing import Any

import sevenn._const as const
import sevenn._keys as KEY
import sevenn.parse_input as parse_input

from sevennet_mf import keys
from sevennet_mf.config import criteria, host_checks, optimizer, recipe
from sevennet_mf.config.blocks import ModelFidelity
from sevennet_mf.config.recipe import StartingPoint
from sevennet_mf.errors import UserError, nearest

Config = dict[str, Any]

# the host fills these from the checkpoint or in model_defaults(), which drops them
# from its own table as soon as one model without `readout_as_fcn` was made
READOUT_DEFAULTS = {
    KEY.READOUT_FCN_HIDDEN_NEURONS: [30, 30],
    KEY.READOUT_FCN_ACTIVATION: 'relu',
}
SHIFT_REMEDY = 'data.fidelity.reference_energies sets the shift of each fidelity.'
SCALES = ('force_rms', 'per_atom_energy_std')
# data on disk or in other formats, which our reader replaces
UNUSED_DATA_KEYS = (
    KEY.DATA_FORMAT,
    KEY.DATA_FORMAT_ARGS,
    KEY.SAVE_DATASET,
    KEY.SAVE_BY_LABEL,
    KEY.SAVE_BY_TRAIN_VALID,
    KEY.DATASET_TYPE,
    'rehearsal',  # not in every version of the host
)
# what the host's readers raise, meant or not
HOST_TROUBLE = (
    AttributeError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def model(section: Config, fidelity: ModelFidelity, order: list[str]) -> Config:
    """Return the host's model configuration with the sites switched on."""
    defaults = {
        **READOUT_DEFAULTS,
        **const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        KEY.CHEMICAL_SPECIES: 'auto',
    }
    defaults.pop(keys.FIDELITY_MODEL, None)
    host_checks.section('model', section, defaults, const.MODEL_CONFIG_CONDITION)
    host_checks.species(section.get(KEY.CHEMICAL_SPECIES, 'auto'))
    section = _as_float(section, KEY.CONV_DENOMINATOR)
    section = {KEY.CHEMICAL_SPECIES: 'auto', **section}
    if section.get(KEY.READOUT_AS_FCN):
        section = {**READOUT_DEFAULTS, **section}
        if 'output' in fidelity.sites and len(order) > 1:
            raise UserError(
                "model.fidelity.sites: 'output' needs the linear readout, which "
                'model.readout_as_fcn: true replaces. Remove one of them; if the '
                "readout is a checkpoint's, remove 'output' from the sites."
            )
    config = _init(parse_input.init_model_config, section, 'model')
    config.pop(keys.FIDELITY_MODEL, None)
    # the same in a process that loaded a model before as in a fresh one
    config.update({k: section.get(k, v) for k, v in READOUT_DEFAULTS.items()})
    several = len(order) > 1
    for site, switch in keys.SITE_SWITCH.items():
        config[switch] = several and site in fidelity.sites
    if several:
        config[KEY.NUM_MODALITIES] = len(order)
        config[KEY.MODAL_MAP] = {name: i for i, name in enumerate(order)}
    return config


def train(
    section: Config, order: list[str], start: StartingPoint | None = None
) -> Config:
    """Return the host's training configuration, completed by the recipe.

    What the recipe filled in is under keys.DEFAULTS.

    Args:
        start: what the run starts from.
    """
    defaults = {**const.DEFAULT_TRAINING_CONFIG, KEY.DEVICE: 'auto'}
    host_checks.section('train', section, defaults, const.TRAINING_CONFIG_CONDITION)
    start = start or StartingPoint()
    section, left_out = recipe.completed(section, start)
    if isinstance(section.get(KEY.CONTINUE), dict):
        host_checks.continue_from(section[KEY.CONTINUE])
    device = section.get(KEY.DEVICE, 'auto')
    if not re.fullmatch(r'auto|cpu|mps|cuda(:\d+)?', str(device)):
        raise UserError(
            f'train.device must be auto, cpu, cuda or cuda:<number>, got {device!r}.'
        )
    if device == 'auto':
        section.pop(KEY.DEVICE, None)
    config = _init(parse_input.init_train_config, section, 'train')
    config[KEY.USE_MODALITY] = len(order) > 1
    config[keys.DEFAULTS] = left_out
    criteria.criterion_of('energy', config, None)  # fails before data are read
    epochs = max(1, config[KEY.EPOCH] - start.reached)
    optimizer.check(config, start.schedule_by, start.recipe, epochs)
    return config


def data(
    section: Config,
    fidelity: ModelFidelity,
    order: list[str],
    entries: dict[str, list[Config]],
) -> Config:
    """Return the host's data configuration; `entries` replace its `load_*_path`."""
    defaults = {**const.DEFAULT_DATA_CONFIG, **entries}
    host_checks.section('data', section, defaults, const.DATA_CONFIG_CONDITION)
    if KEY.SHIFT in section:
        raise UserError(
            f'data.shift: {section[KEY.SHIFT]!r} cannot be combined with a '
            f'`fidelity` block. Remove it: {SHIFT_REMEDY}'
        )
    for name in UNUSED_DATA_KEYS:
        if section.get(name):
            raise UserError(
                f'data.{name} has no effect with a `fidelity` block. Remove it; '
                'an entry of load_trainset_path takes `index` and `format`.'
            )
    ratio = section.get(KEY.RATIO, 0.0)
    if not 0 <= float(ratio) < 1:
        raise UserError(
            f'data.{KEY.RATIO} must be at least 0 and below 1, got {ratio!r}.'
        )
    scale = section.get(KEY.SCALE, SCALES[0])
    if isinstance(scale, str) and scale not in SCALES:
        raise UserError(
            f'data.scale must be a number or one of {list(SCALES)}, got {scale!r}.'
            f'{nearest(scale, SCALES)}'
        )
    plain = {k: v for k, v in section.items() if k not in entries}
    plain = _as_float(plain, KEY.SCALE)
    config = _init(parse_input.init_data_config, plain, 'data')
    config.update(entries)
    several = len(order) > 1
    config[KEY.USE_MODAL_WISE_SHIFT] = several
    config[KEY.USE_MODAL_WISE_SCALE] = several and fidelity.scale == 'per_fidelity'
    return config


def _as_float(section: Config, name: str) -> Config:
    """`section` with `scale: 1` as 1.0: the host accepts only a float."""
    value = section.get(name)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return {**section, name: float(section[name])} if is_whole else section


def _init(initialise: Any, section: Config, where: str) -> Config:
    """Run one of the host's section readers on a copy; copy what it returns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            return copy.deepcopy(initialise(copy.deepcopy(section)))
    except HOST_TROUBLE as error:
        name = _culprit(initialise, section)
        key = where if name is None else f'{where}.{name}: {section[name]!r}'
        raise UserError(f'{key}: {" ".join(str(error).split())}') from None


def _culprit(initialise: Any, section: Config) -> str | None:
    """The key without which the host reads a section, if there is one."""
    for name in section:
        rest = {k: v for k, v in section.items() if k != name}
        with suppress(*HOST_TROUBLE), warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            initialise(copy.deepcopy(rest))
            return str(name)
    return None
