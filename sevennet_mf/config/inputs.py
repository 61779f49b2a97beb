"""From a YAML file to the host's three configuration dictionaries.

host.py puts this before `sevenn.parse_input.read_config_yaml`; a YAML without a
fidelity goes on to the host untouched.
"""

from __future__ import annotations

import copy
import glob
import os
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
from sevennet_mf.errors import UserError, nearest, nearest_file, unknown

if TYPE_CHECKING:
    from sevennet_mf.config.inherit import Inherited
    from sevennet_mf.config.recipe import Origin

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
    """Return the sections of a YAML file; UserError if it is not such a file."""
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

    The `fidelity` blocks become the plain flat keys of keys.py, and the host's own
    modality keys are set to what the model needs. Training keys that are left out
    are the recipe's, or those of `began`, the configuration of the run that is
    resumed. Raises UserError for what is not understood: nothing is ignored.
    """
    sections = copy.deepcopy(sections)  # the host pops keys out of what it reads
    for name in sections:
        if name not in SECTIONS:
            raise unknown('a section of the YAML', name, SECTIONS)
    for name in SECTIONS:
        if not isinstance(sections.setdefault(name, {}), dict):
            raise UserError(f'section {name} must be a block of keys.')
    for name, value in _load_paths(sections['data']).items():
        if value is None:  # `load_validset_path: null` is none
            del sections['data'][name]
    _refuse_host_modality(sections)
    blocks: dict[str, Any] = {
        'model': validate(
            ModelFidelity, sections['model'].pop('fidelity', {}), 'model.fidelity'
        ),
        'train': validate(
            TrainFidelity, sections['train'].pop('fidelity', {}), 'train.fidelity'
        ),
        'data': validate(
            DataFidelity, sections['data'].pop('fidelity', {}), 'data.fidelity'
        ),
    }
    entries = {
        name: _entries(name, value)
        for name, value in _load_paths(sections['data']).items()
    }
    if not entries.get('load_trainset_path'):
        raise _no_training(sections['data'])
    if 'load_drift_path' in entries:
        raise UserError(
            'data.load_drift_path: the set `drift` is that of old fidelities, which '
            'train.fidelity.replay gives. Call yours load_testset_path, for example.'
        )
    found = _inherit(sections, blocks, entries)
    data = blocks['data']
    blocks['default_order'] = data.order is None and data.base is None
    _complete(blocks['train'], data, entries)
    _complete_replay(blocks)
    _check_shares(blocks, entries['load_trainset_path'])
    origin = _origin(sections['train'], blocks, found, began)
    return _host_configs(sections, blocks, entries, origin)


def _origin(
    section: Config,
    blocks: dict[str, Any],
    found: Inherited | None,
    began: Config | None,
) -> Origin:
    """What the run starts from, to the recipe."""
    from sevennet_mf.config import recipe

    update, encoding = blocks['train'].update, blocks['model'].encoding
    own = recipe.recipe_for(found is not None, update, encoding)
    if began is not None or found is None:
        return recipe.Origin(own, began=began)
    return found.origin(section['continue'], own)


def _no_training(data: Config) -> UserError:
    for name in data:
        hint = nearest(name, [TRAINING])
        if hint and name not in SETS:
            return UserError(f'data.{name} is no set to train on.{hint}')
    return UserError(f'data.{TRAINING} is missing: nothing to train on.')


def refuse_misspelt(sections: Config) -> None:
    """UserError for `fidelty` where `fidelity` would have been a block, or a key.

    For a YAML that has no fidelity: SevenNet trains it, and warns of such a key.
    """
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
    sections: Config, blocks: dict[str, Any], entries: dict[str, list[Config]]
) -> Inherited | None:
    """Take over what a checkpoint to continue from has; return it, or None."""
    from sevennet_mf.config import inherit

    found = inherit.read(sections['train'], blocks['train'])
    blocks['old'] = list(found.names) if found else []
    if found is None:
        return None
    train, data = blocks['train'], blocks['data']
    sections['model'] = inherit.fill_model(sections['model'], found)
    blocks['model'] = inherit.fill_fidelity(blocks['model'], found)
    inherit.check_frozen(sections['model'], train)
    given = sections['train']['continue']
    if given.get('use_statistic_values_of_checkpoint') is False:
        inherit.check_transfer(train)
        return found  # train/start.py says what else it needs
    named = [e['fidelity'] for e in entries['load_trainset_path'] if 'fidelity' in e]
    if data.order is None and len(named) < len(entries['load_trainset_path']):
        return found  # _complete says what is missing
    order = inherit.order_of(found, train, data, named)
    if order is not None:
        data.order = order
        for reset in ('reset_optimizer', 'reset_scheduler', 'reset_epoch'):
            sections['train']['continue'][reset] = True  # of other weights
    if len(found.names) > 1 or order is not None:
        inherit.check_old(found, train, data)
    if order is not None:
        train.start_from = train.start_from or data.base
    return found


def _load_paths(data: Any) -> Config:
    if not isinstance(data, dict):
        return {}
    return {
        name: value
        for name, value in data.items()
        if isinstance(name, str)
        and name.startswith('load_')
        and name.endswith('_path')
    }


def _refuse_host_modality(sections: Config) -> None:
    for section, names in HOST_MODALITY_KEYS.items():
        for name in names:
            if name in sections[section]:  # false, too: a site may be on
                raise UserError(
                    f"{section}.{name} belongs to SevenNet's modality training and "
                    'cannot stand beside a `fidelity` block. Remove it: the '
                    '`fidelity` blocks set it.'
                )
    for load, entries in _load_paths(sections['data']).items():
        for entry in entries if isinstance(entries, list) else [entries]:
            for name in HOST_ENTRY_KEYS:
                if isinstance(entry, dict) and name in entry:
                    raise UserError(
                        f"data.{load}: {name!r} belongs to SevenNet's modality "
                        'training and cannot stand beside `fidelity`. Write '
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


def existing(given: str | list[str], where: str) -> list[str]:
    """The files that names and patterns mean; `where` names the key in errors."""
    patterns = given if isinstance(given, list) else [given]
    return [path for pattern in patterns for path in _expand(pattern, where)]


def _expand(pattern: str, where: str) -> list[str]:
    from braceexpand import braceexpand

    found: list[str] = []
    if os.path.isfile(pattern):  # whatever signs are in its name
        return [pattern]
    try:
        parts = list(braceexpand(pattern))
    except ValueError:
        raise UserError(f'{where}: a brace is not closed in {pattern!r}.') from None
    for part in parts:
        is_pattern = glob.has_magic(part) and not os.path.isfile(part)
        matches = sorted(glob.glob(part)) if is_pattern else [part]
        files = [m for m in matches if os.path.isfile(m)]
        if not files and os.path.isdir(part):
            raise UserError(f'{where}: {part!r} is a folder; name files in it.')
        if not files:
            raise UserError(f'{where}: no such file: {part}.{nearest_file(part)}')
        found += files
    return found


def _complete(
    train: TrainFidelity,
    data: DataFidelity,
    entries: dict[str, list[Config]],
) -> None:
    """Fill in order, base and target, and check every fidelity that is named."""
    named = [
        (f'data.{load}[{i}].fidelity', entry.get('fidelity'))
        for load, listed in entries.items()
        for i, entry in enumerate(listed)
    ]
    for where, name in named:
        if name is None and data.key is None:
            raise UserError(
                f'{where} is missing. Name the fidelity of the file, or set '
                "data.fidelity.key to read it from each structure's info."
            )
    if data.order is None:
        if any(name is None for _, name in named):
            raise UserError(
                'data.fidelity.order is missing. It is required with '
                'data.fidelity.key: list the fidelities from low to high.'
            )
        in_training = [e['fidelity'] for e in entries['load_trainset_path']]
        data.order = list(dict.fromkeys(in_training))
    data.base = data.base or data.order[0]
    train.target = train.target or data.order[-1]
    _check_names(train, data, named)
    if train.loss_weight == 'balanced' and train.sampling != 'proportional':
        raise UserError(
            "train.fidelity.loss_weight: 'balanced' and a sampling other than "
            "'proportional' would count twice. Keep one of the two."
        )


def _check_names(
    train: TrainFidelity, data: DataFidelity, named: list[tuple[str, Any]]
) -> None:
    """UserError for a fidelity that data.order lacks; named: (key, name or None)."""
    assert data.order is not None
    named = [
        *named,
        ('data.fidelity.base', data.base),
        ('train.fidelity.target', train.target),
        *(('data.fidelity.about', name) for name in data.about),
    ]
    for where, value in (
        ('train.fidelity.loss_weight', train.loss_weight),
        ('train.fidelity.sampling', train.sampling),
        ('data.fidelity.reference_energies', data.reference_energies),
    ):
        if isinstance(value, dict):
            named += [(where, name) for name in value]
    for where, name in named:
        if name is not None and name not in data.order:
            raise unknown(
                where,
                name,
                data.order,
                'Correct it, or add it to data.fidelity.order.',
            )


def _complete_replay(blocks: dict[str, Any]) -> None:
    """Files of a replay, of which fidelity they are, how often they are drawn."""
    train, replay = blocks['train'], blocks['train'].replay
    if replay is None:
        return
    if not train.model_fields_set & {'sampling', 'loss_weight'}:
        train.sampling = 'balanced'  # a few labels would drown in the replay
    where = 'train.fidelity.replay'
    if replay.file is None:
        options = replay.self_label
        if options.structures is not None:
            options.structures = existing(
                options.structures, f'{where}.self_label.structures'
            )
        return
    replay.file = existing(replay.file, f'{where}.file')
    if replay.fidelity is None:
        old = blocks['old']
        adds = any(name not in old for name in blocks['data'].order)
        kept = [name for name in old if adds or name != train.target]
        source = train.start_from
        replay.fidelity = source if source in kept else kept[0]


def _check_shares(blocks: dict[str, Any], entries: list[Config]) -> None:
    """UserError for a fidelity without a share, where it is known to have data."""
    train, order, old = blocks['train'], blocks['data'].order, blocks['old']
    if not isinstance(train.sampling, dict):
        return
    # one that the checkpoint has may be without data
    used = {entry.get('fidelity') for entry in entries}
    if train.replay is not None:
        of = train.replay.fidelity
        used |= set(old) if of is None else {of}
    needs = [name for name in order if name not in old or name in used]
    lacking = [name for name in needs if name not in train.sampling]
    if lacking:
        raise UserError(lacking_shares(lacking))


def lacking_shares(names: list[str]) -> str:
    """Return what to say of fidelities with data and without a share."""
    return (
        f'train.fidelity.sampling has no share for {names}; give each fidelity one.'
    )


def _host_configs(
    sections: Config,
    blocks: dict[str, Any],
    entries: dict[str, list[Config]],
    origin: Origin,
) -> tuple[Config, Config, Config]:
    from sevennet_mf.config import host_sections as host_config
    from sevennet_mf.config import recipe

    order = blocks['data'].order
    model = host_config.model(sections['model'], blocks['model'], order)
    train = host_config.train(sections['train'], order, origin)
    data = host_config.data(sections['data'], blocks['model'], order, entries)
    model[keys.FIDELITY_MODEL] = blocks['model'].model_dump()
    train[keys.FIDELITY_TRAIN] = blocks['train'].model_dump()
    asked = blocks['train'].steps_per_epoch
    least = recipe.least_steps(sections['train'], asked, origin)
    if least is not None:
        train[keys.FIDELITY_TRAIN][recipe.LEAST_STEPS] = least
    replay = blocks['train'].replay
    if replay is not None:  # an entry has the keys that were given, and no others
        train[keys.FIDELITY_TRAIN]['replay'] = {
            'entry': replay.model_dump(
                exclude_unset=True, include=set(DataEntry.model_fields)
            ),
            **replay.model_dump(exclude=set(DataEntry.model_fields) - {'fidelity'}),
        }
    train[keys.OLD_FIDELITIES] = blocks['old']
    data[keys.DEFAULT_ORDER] = blocks['default_order']
    data[keys.FIDELITY_DATA] = blocks['data'].model_dump()
    return model, train, data
