"""The training YAML of each method, from the sections of input_yaml.

Pure functions: sections in, new sections out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sevennet_mf import keys
from sevennet_mf.study.plan.budget import Budget, set_epochs

Config = dict[str, Any]
Entries = Mapping[str, Sequence[Config]]  # by fidelity

# keys of train.fidelity without meaning where there is one fidelity
OF_SEVERAL: Final[tuple[str, ...]] = (
    'loss_weight',
    'sampling',
    'paired_weight',
    'regularization',
)


@dataclass(frozen=True)
class Recipe:
    """What the rows of a study that differ in their method only have in common.

    sections: input_yaml, with the changes of a variant; epochs: what its scheduler
    is meant for; order: low to high; low: the fidelity that transfer and delta
    build on; elements: of all data, so that every model has the same; valid:
    entries of load_validset_path.
    """

    sections: Config
    epochs: int
    order: tuple[str, ...]
    target: str
    low: str
    elements: tuple[str, ...]
    valid: Entries

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.order if name != self.target)

    @property
    def difference(self) -> str:
        """What the fidelity of delta's second model is called."""
        return f'{self.target}_minus_{self.low}'


def merged(base: Any, change: Any) -> Any:
    """`base` with the keys of `change`, block by block; None takes a key out."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    result = copy.deepcopy(base)
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def training(
    recipe: Recipe,
    train: Entries,
    budget: Budget,
    seed: int,
    target: str = '',
    valid: Entries | None = None,
) -> Config:
    """A training on some fidelities: those that `train` has entries of.

    All of them: multi_fidelity. The target alone: high_only. All others: the first
    stage of transfer and delta. target: default: the recipe's. What names a
    fidelity that is not there is left out, and so is, of a single fidelity, all
    that only several give a meaning.
    """
    names = list(train)
    sections = common(recipe, budget, seed)
    block = dict(sections['train'].get('fidelity') or {})
    block.update(
        target=target or recipe.target, steps_per_epoch=budget.steps_per_epoch
    )
    data = dict(sections['data'].get('fidelity') or {})
    data.pop('key', None)  # our files are of one fidelity each
    data['order'] = names
    if data.get('base') not in names:
        data.pop('base', None)
    if len(names) == 1 or recipe.target not in names:
        data.pop('inferred_labels', None)  # they are the target's
    for part, name in (
        (block, 'loss_weight'),
        (block, 'sampling'),
        (data, 'about'),
        (data, 'reference_energies'),
    ):
        _keep(part, name, names)
    if len(names) == 1:
        sections['model'].pop('fidelity', None)
        for name in OF_SEVERAL:
            block.pop(name, None)
    sections['train']['fidelity'] = block
    sections['data']['fidelity'] = data
    _set_data(sections, train, recipe.valid if valid is None else valid)
    return sections


def transfer(
    recipe: Recipe, train: Entries, budget: Budget, seed: int, checkpoint: str
) -> Config:
    """The second stage of transfer: from the low model's weights to the target."""
    sections = training(recipe, train, budget, seed)
    sections['train']['continue'] = {
        'checkpoint': checkpoint,
        'reset_optimizer': True,
        'reset_scheduler': True,
        'reset_epoch': True,
        'use_statistic_values_of_checkpoint': False,
    }
    # they come from the checkpoint
    sections['model'].pop('conv_denominator', None)
    sections['data'].pop('scale', None)
    if isinstance(sections['data']['fidelity'].get('reference_energies'), dict):
        del sections['data']['fidelity']['reference_energies']
    return sections


def difference(
    recipe: Recipe, files: tuple[str, str], budget: Budget, seed: int
) -> Config:
    """The second stage of delta: a model of what the target has on top of `low`.

    files: differences to train on and, or '', to validate on.
    """
    name = recipe.difference
    train, valid = (
        {name: [{'file': f, 'fidelity': name}]} if f else {} for f in files
    )
    sections = training(recipe, train, budget, seed, name, valid)
    # DeltaCalculator refuses another low fidelity than this
    sections['data']['fidelity']['about'] = {name: {keys.DIFFERENCE_TO: recipe.low}}
    return sections


def entry(file: str, fidelity: str, count: int | None = None) -> Config:
    """An entry of a `load_*_path`: the first `count` structures of a file."""
    part = {} if count is None else {'index': f':{count}'}
    return {'file': file, 'fidelity': fidelity, **part}


def common(recipe: Recipe, budget: Budget, seed: int) -> Config:
    """What no method changes."""
    sections = copy.deepcopy(recipe.sections)
    for name in ('model', 'train', 'data'):
        sections[name] = dict(sections.get(name) or {})
    sections['model']['chemical_species'] = list(recipe.elements)
    sections['train']['random_seed'] = seed
    set_epochs(sections['train'], budget.epochs, recipe.epochs)
    for name in list(sections['data']):
        if name.startswith('load_') or name == 'data_divide_ratio':
            del sections['data'][name]
    return sections


def _set_data(sections: Config, train: Entries, valid: Entries) -> None:
    """The entries of a training set, and of a validation set if there is one."""
    chosen = {'load_trainset_path': train, 'load_validset_path': valid}
    for load, by_fidelity in chosen.items():
        listed = [dict(e) for name in train for e in by_fidelity.get(name, ())]
        if listed:
            sections['data'][load] = listed


def _keep(block: Config, key: str, names: Sequence[str]) -> None:
    """Leave out of `key`, if it is by fidelity, those that are not there."""
    given = block.get(key)
    if isinstance(given, dict):
        block[key] = {name: value for name, value in given.items() if name in names}
        if not block[key]:
            del block[key]
