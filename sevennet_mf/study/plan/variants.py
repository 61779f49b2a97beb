"""The rows of a study: its methods, and its variants with their own YAML."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

from sevennet_mf import keys
from sevennet_mf.config import inputs, recipe
from sevennet_mf.study.plan import methods
from sevennet_mf.study.plan.base import Base, configs
from sevennet_mf.study.plan.budget import budget_of
from sevennet_mf.study.plan.config import Study
from sevennet_mf.study.plan.material import Material
from sevennet_mf.study.plan.methods import Config, Recipe
from sevennet_mf.study.plan.rows import Row


def rows_of(study: Study, base: Base, material: Material, out: Path) -> list[Row]:
    """Return the methods and variants of a study. UserError for a wrong variant."""
    found = [
        _row(name, name, {}, study, base, material, out) for name in study.methods
    ]
    for name, variant in study.variants.items():
        found.append(
            _row(name, variant.method, variant.set, study, base, material, out)
        )
    return found


def _row(
    name: str,
    method: str,
    change: Config,
    study: Study,
    base: Base,
    material: Material,
    out: Path,
) -> Row:
    ours, host_only = _parted(change)
    if host_only and method != 'host_modality':
        ours, host_only = change, {}  # refused, like any key that is out of place
    sections = methods.merged(base.sections, ours)
    _, train, data = configs(sections, f'study.variants.{name}' if change else name)
    # for SevenNet's own training, too: rows are to differ in their method only
    sections['train'] = recipe.written(
        sections.get('train') or {}, train[keys.DEFAULTS]
    )
    batch_size = int(data['batch_size'])
    in_a_pass = math.ceil(material.given / base.batch_size)
    per_epoch = base.steps_per_epoch or max(base.least_steps, in_a_pass)
    made = Recipe(
        sections=sections,
        epochs=base.epochs,
        order=base.order,
        target=base.target,
        low=base.low,
        elements=material.elements,
        valid=material.valid_entries(),
    )
    budget = budget_of(study.steps, base.epochs, per_epoch)
    return Row(
        name, method, made, budget, host_only, batch_size, study, material, out
    )


def _parted(change: Config) -> tuple[Config, Config]:
    """(changes to input_yaml, keys of SevenNet's own modality training)."""
    ours: dict[str, Any] = copy.deepcopy(change)
    host_only: dict[str, Any] = {}
    for section, names in inputs.HOST_MODALITY_KEYS.items():
        block = ours.get(section)
        for name in names:
            if isinstance(block, dict) and name in block:
                host_only.setdefault(section, {})[name] = block.pop(name)
    return ours, host_only
