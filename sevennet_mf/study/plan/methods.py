"""The training YAML of each method, from the sections of input_yaml.

Pure functions: sections in, new sections out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sevennet_mf import keys
from sevennet_mf.study.plan.budget import Budget, by_step, set_epochs

Config = dict[str, Any]
Entries = Mapping[str, Sequence[Config]]  # by fidelity

# keys of train.fidelity that have no effect with a single fidelity
OF_SEVERAL: Final[tuple[str, ...]] = (
    'loss_weight',
    'sampling',
    'regularization',
)


@dataclass(frozen=True)
class StudyRecipe:
    """What rows of a study have in common if only their method differs.

    Attributes:
        sections: input_yaml, with the changes of a variant.
        budget: What its scheduler is meant for.
        order: Fidelities, from low to high.
        low: The fidelity that transfer and delta build on.
        elements: Of all data, so that every model has the same.
        valid: Entries of load_validset_path.
    """

    sections: Config
    budget: Budget
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
        """Name of the fidelity of delta's second model."""
        return f'{self.target}_minus_{self.low}'


def merged(base: Any, change: Any) -> Any:
    """Return `base` with the keys of `change`, block by block; None removes one."""
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
    recipe: StudyRecipe,
    train: Entries,
    budget: Budget,
    seed: int,
    target: str = '',
    valid: Entries | None = None,
) -> Config:
    """Return the YAML of a training on the fidelities in `train`.

    All fidelities: multi_fidelity. The target alone: high_only. All others: the
    first stage of transfer and delta. Settings of other fidelities are left out,
    and with a single fidelity also those that need several.

    Args:
        target: Default: that of the recipe.
        valid: Entries for validation; default: those of the recipe.
    """
    names = list(train)
    sections = common(recipe, budget, seed)
    block = dict(sections['train'].get('fidelity') or {})
    block.update(
        target=target or recipe.target, steps_per_epoch=budget.steps_per_epoch
    )
    data = dict(sections['data'].get('fidelity') or {})
    data.pop('key', None)  # each of our files has one fidelity
    data['order'] = names
    if data.get('base') not in names:
        data.pop('base', None)
    if len(names) == 1 or recipe.target not in names:
        data.pop('inferred_labels', None)  # they belong to the target
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
    recipe: StudyRecipe, train: Entries, budget: Budget, seed: int, checkpoint: str
) -> Config:
    """Return the second stage of transfer, from the low model to the target.

    Args:
        checkpoint: Path of the low model.
    """
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
    recipe: StudyRecipe, files: tuple[str, str], budget: Budget, seed: int
) -> Config:
    """Return the second stage of delta, a model of the target minus `low`.

    Args:
        files: Differences for training, and for validation or ''.
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
    """Return an entry of a `load_*_path`: the first `count` structures of a file."""
    part = {} if count is None else {'index': f':{count}'}
    return {'file': file, 'fidelity': fidelity, **part}


def common(recipe: StudyRecipe, budget: Budget, seed: int) -> Config:
    """Return the sections that are the same for all methods."""
    sections = copy.deepcopy(recipe.sections)
    for name in ('model', 'train', 'data'):
        sections[name] = dict(sections.get(name) or {})
    sections['model']['chemical_species'] = list(recipe.elements)
    sections['train']['random_seed'] = seed
    set_epochs(sections['train'], budget, recipe.budget)
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
    """Remove absent fidelities from `key`, if it is given by fidelity."""
    given = block.get(key)
    if isinstance(given, dict):
        block[key] = {name: value for name, value in given.items() if name in names}
        if not block[key]:
            del block[key]


# ---- SevenNet's own training


# where SevenNet's multi_modal.yaml and the paper have weights of a modality
SITES: Final[tuple[str, ...]] = (
    'self_interaction_1',
    'self_interaction_2',
    'output',
)
LABELS: Final[tuple[str, ...]] = ('energy', 'force', 'stress')
# largest relative difference between its steps and those of other methods
MOST_OFF: Final[float] = 0.1
# numbers that SevenNet only accepts as floats, by section
FLOATS: Final[dict[str, str]] = {'model': 'conv_denominator', 'data': 'scale'}


def budget_for(steps: int, structures: int, batch_size: int) -> Budget:
    """Return the number of whole epochs that is nearest to `steps`.

    An epoch of SevenNet is one pass over the structures.
    """
    per_epoch = math.ceil(structures / batch_size)
    return Budget(max(1, round(steps / per_epoch)), per_epoch)


def too_far(budget: Budget, steps: int) -> str:
    """Return why a run of `budget` cannot be compared with one of `steps`, or ''."""
    if abs(budget.steps - steps) <= MOST_OFF * steps:
        return ''
    return (
        f"SevenNet's own training makes whole passes over the data, here of "
        f'{budget.steps_per_epoch} steps each: the nearest number, {budget.steps} '
        f'steps, is too different from the {steps} of the other methods. Raise '
        'study.steps.'
    )


def host_lacks(recipe: StudyRecipe) -> str:
    """Return why SevenNet's own training cannot be compared at all, or ''."""
    if not by_step(recipe.sections.get('train') or {}):
        return ''
    return (
        "SevenNet's own schedules count epochs, and that of the other methods "
        'counts steps. Leave out this method, or the schedule by step.'
    )


def host_modality(
    recipe: StudyRecipe,
    train: Entries,
    counts: Mapping[str, int],
    budget: Budget,
    seed: int,
    change: Config,
) -> Config:
    """Return the sections of SevenNet's own training on all fidelities.

    They have no `fidelity` block. What SevenNet does not support (sampling, aligned
    references, regularisation) is left out.

    Args:
        counts: Number of training structures by fidelity.
        change: Keys of SevenNet's modality training that a variant sets.
    """
    sections = common(recipe, budget, seed)
    blocks = {
        name: dict(sections[name].pop('fidelity', None) or {}) for name in sections
    }
    for site, switch in keys.SITE_SWITCH.items():
        sections['model'][switch] = site in SITES
    weights = _weights(blocks['train'].get('loss_weight'), counts)
    sections['train'].update(use_modality=True, use_weight=bool(weights))
    sections['data'].update(
        shift='elemwise_reference_energies',
        use_modal_wise_shift=True,
        use_modal_wise_scale=blocks['model'].get('scale') == 'per_fidelity',
        load_trainset_path=[
            _modality(name, listed, weights.get(name))
            for name, listed in train.items()
        ],
    )
    # the best checkpoint is written only for a set of this name, and is the best one
    # on everything in it
    if valid := recipe.valid.get(recipe.target):
        only = _modality(recipe.target, valid, _ONE if weights else None)
        sections['data']['load_validset_path'] = [only]
    for name, block in change.items():
        sections[name].update(block)
    _as_it_reads(sections)
    return sections


def _as_it_reads(sections: Config) -> None:
    """Rewrite what only `sevennet-mf train` accepts: `device: auto`, `scale: 1`."""
    if sections['train'].get('device') == 'auto':
        del sections['train']['device']  # its default is the same
    for section, name in FLOATS.items():
        value = sections[section].get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            sections[section][name] = float(value)


_ONE: Final[dict[str, float]] = dict.fromkeys(LABELS, 1.0)


def _modality(name: str, listed: Any, weight: Mapping[str, float] | None) -> Config:
    files = [{k: v for k, v in e.items() if k != 'fidelity'} for e in listed]
    block: Config = {'data_modality': name, 'file_list': files}
    if weight:
        block['data_weight'] = dict(weight)
    return block


def _weights(given: Any, counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """data_weight of each modality; {} where all count the same."""
    if not given:
        return {}
    if given == 'balanced':
        mean = sum(counts.values()) / len(counts)
        given = {name: mean / count for name, count in counts.items()}
    return {
        name: {
            label: float(
                weight.get(label, 1.0) if isinstance(weight, dict) else weight
            )
            for label in LABELS
        }
        for name, weight in ((n, given.get(n, 1.0)) for n in counts)
    }
