"""The YAML of SevenNet's own multi-modal training: the method `host_modality`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sevennet_mf import keys
from sevennet_mf.study.plan.budget import Budget
from sevennet_mf.study.plan.methods import Config, Entries, Recipe, common

# where SevenNet's multi_modal.yaml, and the paper, put weights of a modality
SITES: Final[tuple[str, ...]] = (
    'self_interaction_1',
    'self_interaction_2',
    'output',
)
LABELS: Final[tuple[str, ...]] = ('energy', 'force', 'stress')
# how far its steps may be from those of the other methods
MOST_OFF: Final[float] = 0.1
# numbers that SevenNet takes as floats alone, by section
FLOATS: Final[dict[str, str]] = {'model': 'conv_denominator', 'data': 'scale'}


def budget_for(steps: int, structures: int, batch_size: int) -> Budget:
    """Return the whole epochs that come nearest to `steps`.

    SevenNet's epoch is one pass over the structures.
    """
    per_epoch = math.ceil(structures / batch_size)
    return Budget(max(1, round(steps / per_epoch)), per_epoch)


def too_far(budget: Budget, steps: int) -> str:
    """Return why a run of `budget` cannot be compared with one of `steps`, or ''."""
    if abs(budget.steps - steps) <= MOST_OFF * steps:
        return ''
    return (
        f"SevenNet's own training takes whole passes over the data, here of "
        f'{budget.steps_per_epoch} steps each: {budget.steps} steps come nearest to '
        f'the {steps} of the other methods, which is too far for a comparison. '
        'Raise study.steps.'
    )


def host_modality(
    recipe: Recipe,
    train: Entries,
    counts: Mapping[str, int],
    budget: Budget,
    seed: int,
    change: Config,
) -> Config:
    """Return the sections of SevenNet's own training on all fidelities.

    counts: training structures by fidelity; change: keys of SevenNet's modality
    that a variant sets. Without any `fidelity` block. What it cannot do (sampling,
    aligned references, regularisation) it does without.
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
    # the best checkpoint is written for a set of this name alone, and is the best
    # on all that is in it
    if valid := recipe.valid.get(recipe.target):
        only = _modality(recipe.target, valid, _ONE if weights else None)
        sections['data']['load_validset_path'] = [only]
    for name, block in change.items():
        sections[name].update(block)
    _as_it_reads(sections)
    return sections


def _as_it_reads(sections: Config) -> None:
    """Rewrite what only `sevennet-mf train` takes: `device: auto`, `scale: 1`."""
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
