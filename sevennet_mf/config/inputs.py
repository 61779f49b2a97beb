"""From a YAML file to the host's three configuration dictionaries.

host.py puts this before `sevenn.parse_input.read_config_yaml`; a YAML without a
fidelity goes on to the host untouched.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sevennet_mf import keys
from sevennet_mf.config import yaml_file
from sevennet_mf.config.blocks import (
    DataEntry,
    DataFidelity,
    ModelFidelity,
    TrainFidelity,
    validate,
)
from sevennet_mf.config.complete import Blocks
from sevennet_mf.config.paths import existing
from sevennet_mf.errors import UserError, nearest, unknown

if TYPE_CHECKING:
    from sevennet_mf.checkpoint.origin import Origin
    from sevennet_mf.config.run_inputs import RunInputs

Config = dict[str, Any]
SECTIONS = ('model', 'train', 'data')

# What the host's own multi-modal training is written with
HOST_MODALITY_KEYS = {
    'model': tuple(keys.SITE_SWITCH.values()),
    'train': ('use_modality', 'use_weight', 'default_modal'),
    'data': ('use_modal_wise_shift', 'use_modal_wise_scale'),
}
TRAINING = 'load_trainset_path'
SETS = (TRAINING, 'load_validset_path', 'load_testset_path')
HOST_ENTRY_KEYS = ('data_modality', 'file_list', 'data_weight')


def load_yaml(filename: str) -> Config:
    """Return the sections of a YAML file.

    Raises:
        UserError: The file cannot be read, or has no sections.
    """
    sections = yaml_file.load(filename)
    if not isinstance(sections, dict):
        what = 'is empty' if sections is None else 'has none'
        raise UserError(
            f'{filename} must have the sections model, train and data; it {what}.'
        )
    return sections


def has_fidelity(sections: Config) -> bool:
    """Whether a YAML asks for multi-fidelity training."""
    for name in SECTIONS:
        section = sections.get(name)
        if isinstance(section, dict) and 'fidelity' in section:
            return True
    return any(
        isinstance(entry, dict) and 'fidelity' in entry
        for entries in _load_paths(sections.get('data')).values()
        for entry in (entries if isinstance(entries, list) else [entries])
    )


def from_sections(
    sections: Config, began: Config | None = None
) -> tuple[Config, Config, Config]:
    """Return the host's (model, train, data) dictionaries of a multi-fidelity YAML.

    They hold what `read` returns, with the `fidelity` blocks as the flat keys of
    keys.py.
    """
    return read(sections, began).dumped()


def read(
    sections: Config, began: Config | None = None, opened: Origin | None = None
) -> RunInputs:
    """Return the sections of a multi-fidelity YAML as typed and complete objects.

    The host's own modality keys are set to what the model needs. Training keys that
    are left out are taken from the recipe or from `began`.

    Args:
        began: The configuration of the run that is resumed.
        opened: The checkpoint that `continue` names, if already opened.

    Raises:
        UserError: A key or value is not understood; nothing is ignored.
    """
    sections = _checked(sections)
    given = _given(sections)
    blocks = Blocks(
        validate(ModelFidelity, given['model'], 'model.fidelity'),
        validate(TrainFidelity, given['train'], 'train.fidelity'),
        validate(DataFidelity, given['data'], 'data.fidelity'),
    )
    if blocks.train.batch_edges is not None:
        _refuse_batch_size(sections['data'], blocks.train.batch_edges)
    entries = _sets(sections['data'])
    origin = _inherit(sections, blocks, entries[TRAINING], opened)
    is_default_order = blocks.data.order is None and blocks.data.base is None
    blocks.complete(entries, () if origin is None else origin.names)
    return _assembled(sections, blocks, entries, origin, is_default_order, began)


def _given(sections: Config) -> Config:
    """The `fidelity` block of each section, taken out of it."""
    from sevennet_mf.config import places

    given = {name: sections[name].pop('fidelity', {}) for name in SECTIONS}
    for name, block in given.items():
        if isinstance(block, dict):
            places.refuse_misplaced(block, f'{name}.fidelity')
    return given


def _refuse_batch_size(data: Config, batch_edges: int) -> None:
    """Raise UserError if `data` has a batch size as well; null is none."""
    size = data.pop('batch_size', None)
    if size is not None:
        raise UserError(
            f'data.batch_size: {size} and train.fidelity.batch_edges: {batch_edges} '
            'both say how large a batch is. Remove one of the two.'
        )


def _checked(sections: Config) -> Config:
    """A copy of the sections of a YAML, which are blocks of keys and all known."""
    sections = copy.deepcopy(sections)  # the host pops keys out of what it reads
    _refuse_sections(sections)
    for name in SECTIONS:
        if not isinstance(sections.setdefault(name, {}), dict):
            raise UserError(f'section {name} must be a block of keys.')
    for name, value in _load_paths(sections['data']).items():
        if value is None:  # `load_validset_path: null` is none
            del sections['data'][name]
    _refuse_host_modality(sections)
    from sevennet_mf.config import later_host

    return later_host.understood(sections)


def _refuse_sections(sections: Config) -> None:
    """Raise UserError for a section that does not exist, as a key of another."""
    from sevennet_mf.config import places

    for name in sections:
        if name not in SECTIONS:
            place = places.place_of(str(name)).strip()
            raise unknown('a section of the YAML', name, SECTIONS, place)


def _sets(data: Config) -> dict[str, list[Config]]:
    """The entries of each `load_*_path`; UserError for sets that cannot be."""
    entries = {
        name: _entries(name, value) for name, value in _load_paths(data).items()
    }
    if not entries.get(TRAINING):
        raise _no_training(data)
    if 'load_drift_path' in entries:
        raise UserError(
            'data.load_drift_path: the set name `drift` is reserved for the old '
            'fidelities of train.fidelity.replay. Rename it, for example to '
            'load_testset_path.'
        )
    return entries


def _assembled(
    sections: Config,
    blocks: Blocks,
    entries: dict[str, list[Config]],
    origin: Origin | None,
    is_default_order: bool,
    began: Config | None,
) -> RunInputs:
    """All of it, the rest as the host's own readers and the recipe have it."""
    from sevennet_mf.config import compatible, host_sections, inherit, recipe
    from sevennet_mf.config.run_inputs import RunInputs

    model, train, order = blocks.model, blocks.train, blocks.order
    own = recipe.recipe_for(origin is not None, train.update, model.encoding)
    start = recipe.StartingPoint(own, began=began)
    if began is None and origin is not None:
        start = inherit.starting_point(origin, sections['train']['continue'], own)
    start = replace(start, schedule_by=train.schedule_by)
    inputs = RunInputs(
        model,
        train,
        blocks.data,
        (
            host_sections.model(sections['model'], model, order),
            host_sections.train(sections['train'], order, start),
            host_sections.data(sections['data'], model, order, entries),
        ),
        origin,
        is_default_order,
        recipe.least_steps(sections['train'], train.steps_per_epoch, start),
    )
    compatible.check(inputs)
    return inputs


def _no_training(data: Config) -> UserError:
    for name in data:
        hint = nearest(name, [TRAINING])
        if hint and name not in SETS:
            return UserError(f'data.{name} is not a training set.{hint}')
    return UserError(f'data.{TRAINING} is missing: nothing to train on.')


def refuse_ignored(sections: Config) -> None:
    """Refuse what is meant for a `fidelity` block, in a YAML without one.

    SevenNet would train it, and only warn of the unknown key.

    Raises:
        UserError: A key looks like `fidelity`, belongs into such a block, or to a
            later version.
    """
    from sevennet_mf.config import later_host, places

    _refuse_sections(sections)
    later_host.refuse(sections)
    places.refuse_ours(sections, [word.key for word in later_host.WORDS])
    for where, block in sections.items():
        entries = _load_paths(block) if where == 'data' else {}
        blocks = {where: block}
        for load, value in entries.items():
            listed = value if isinstance(value, list) else [value]
            blocks |= {f'data.{load}[{i}]': entry for i, entry in enumerate(listed)}
        for path, values in blocks.items():
            for name in values if isinstance(values, dict) else ():
                hint = nearest(name, ['fidelity'])
                if hint and name not in HOST_ENTRY_KEYS:
                    raise UserError(f'{path}.{name} is not a known key.{hint}')


def _inherit(
    sections: Config,
    blocks: Blocks,
    training: list[Config],
    opened: Origin | None,
) -> Origin | None:
    """Take over what a checkpoint to continue from has; return it, or None."""
    from sevennet_mf.config import compatible, inherit

    train, data = blocks.train, blocks.data
    found = inherit.read(sections['train'], train, opened)
    if found is None:
        return None
    sections['model'] = inherit.fill_model(sections['model'], found)
    blocks.model = inherit.fill_fidelity(blocks.model, found)
    compatible.check_frozen(sections['model'], train)
    given = sections['train']['continue']
    # the path, because the host would download what is not on this machine
    given['checkpoint'] = found.path
    if inherit.is_transfer(given):
        compatible.check_transfer(train)
        return found  # compatible.check says what else it needs
    named = [e['fidelity'] for e in training if 'fidelity' in e]
    if data.order is None and len(named) < len(training):
        return found  # blocks.complete says what is missing
    order = inherit.order_of(found, train, data, named)
    if order is not None:
        data.order = order
        for reset in ('reset_optimizer', 'reset_scheduler', 'reset_epoch'):
            given[reset] = True  # of other weights
    if len(found.names) > 1 or order is not None:
        inherit.check_old(found, train, data)
    if order is not None:
        train.start_from = train.start_from or data.base
    return found


def _load_paths(data: Any) -> Config:
    if not isinstance(data, dict):
        return {}
    return {name: value for name, value in data.items() if keys.is_load_path(name)}


def _refuse_host_modality(sections: Config) -> None:
    for section, names in HOST_MODALITY_KEYS.items():
        for name in names:
            if name in sections[section]:  # false, too: a site may be on
                raise UserError(
                    f"{section}.{name} belongs to SevenNet's modality training and "
                    'cannot be used with a `fidelity` block. Remove it: the '
                    '`fidelity` blocks set it.'
                )
    for load, entries in _load_paths(sections['data']).items():
        for entry in entries if isinstance(entries, list) else [entries]:
            for name in HOST_ENTRY_KEYS:
                if isinstance(entry, dict) and name in entry:
                    raise UserError(
                        f"data.{load}: {name!r} belongs to SevenNet's modality "
                        'training and cannot be used with `fidelity`. Write '
                        '`- {file: ..., fidelity: ...}` instead.'
                    )


def _entries(name: str, value: Any) -> list[Config]:
    """One `load_*_path` as plain dictionaries whose files all exist."""
    result = []
    for i, entry in enumerate(value if isinstance(value, list) else [value]):
        where = f'data.{name}[{i}]'
        if isinstance(entry, str):
            entry = {'file': entry}
        plain = validate(DataEntry, entry, where).model_dump(exclude_unset=True)
        plain['file'] = existing(plain['file'], where)
        if plain.get('fidelity', '') is None:  # as if left out: the key tells
            del plain['fidelity']
        result.append(plain)
    return result
