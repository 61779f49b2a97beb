"""The YAML of SevenNet's own multi-modal training: the method `host_modality`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sevennet_mf import keys
from sevennet_mf.study.budget import Budget
from sevennet_mf.study.methods import Config, Entries, Recipe, common

# where SevenNet's multi_modal.yaml, and the paper, put weights of a modality
SITES: Final[tuple[str, ...]] = (
    'self_interaction_1',
    'self_interaction_2',
    'output',
)
LABELS: Final[tuple[str, ...]] = ('energy', 'force', 'stress')


def budget_for(steps: int, structures: int, batch_size: int) -> Budget:
    """Return the whole epochs that come nearest to `steps`.

    SevenNet's epoch is one pass over the structures.
    """
    per_epoch = math.ceil(structures / batch_size)
    return Budget(max(1, round(steps / per_epoch)), per_epoch)


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
    return sections


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
