"""The rows of a study and their runs: run.json and YAML files, not yet written."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevennet_mf.config import inputs, recipe
from sevennet_mf.study.plan import methods
from sevennet_mf.study.plan.budget import Budget, budget_of
from sevennet_mf.study.plan.data_folder import PAIRED, Material
from sevennet_mf.study.plan.input_yaml import Base, checked
from sevennet_mf.study.plan.methods import Config, StudyRecipe
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.runs import (
    DIFFERENCES,
    FOLDED,
    LOW,
    TRAINING,
    TWO_STAGES,
    checkpoint_name,
)


@dataclass
class Planned:
    """A run before it is written.

    Attributes:
        content: Content of run.json.
        yamls: Sections of each YAML, by file name in its folder.
    """

    content: Config
    yamls: dict[str, Config] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.content['name'])


def check(sections: Config, where: str) -> None:
    """Check a YAML that a study made.

    Raises:
        UserError: If it cannot be trained on.
    """
    sections = copy.deepcopy(sections)
    sections['train'].pop('continue', None)  # it will exist when it is needed
    for value in sections['data'].values():
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, dict) and _is_of_differences(entry.get('file')):
                return  # and so will these
    checked(sections, where)


def _is_of_differences(file: Any) -> bool:
    # OUT itself may be anywhere: only the end counts, OUT/runs/NAME/differences/...
    return str(file).endswith(tuple(f'/{name}' for name in DIFFERENCES))


@dataclass(frozen=True)
class Row:
    """A method or a variant of one, with everything needed to make its runs."""

    name: str
    method: str
    recipe: StudyRecipe
    budget: Budget
    host_only: Config
    batch_size: int
    study: Study
    material: Material
    out: Path

    @property
    def low_name(self) -> str:
        """Name of the runs that train on all fidelities but the target."""
        return LOW if self.name == self.method else f'{LOW}_{self.name}'

    def runs(self, counts: Sequence[int]) -> Iterator[Planned]:
        """Yield the runs for each number of labels, needed ones first."""
        make: Callable[[int, int], Planned] = getattr(self, f'_{self.method}')
        for seed in self.study.seeds:
            if self.method in TWO_STAGES:
                yield self._low(seed)
            for count in counts:
                yield make(count, seed)

    # ---- what each method is

    def _low(self, seed: int) -> Planned:
        first, _ = self.budget.split(self.study.low_share)
        sections = methods.training(
            self.recipe, self._others(), first, seed, self.recipe.low
        )
        planned = self._planned(f'{self.low_name}/seed{seed}', 0, seed, [first])
        planned.content.update(row=self.low_name, method=LOW)
        return self._with_training(planned, sections, first)

    def _high_only(self, count: int, seed: int) -> Planned:
        train = self._target(count, seed)
        sections = methods.training(self.recipe, train, self.budget, seed)
        planned = self._of(count, seed, [self.budget])
        planned.content.update(low_labels=0, test_low_labelled=0)
        return self._with_training(planned, sections, self.budget)

    def _multi_fidelity(self, count: int, seed: int) -> Planned:
        train = self._all(count, seed)
        sections = methods.training(self.recipe, train, self.budget, seed)
        planned = self._of(count, seed, [self.budget])
        return self._with_training(planned, sections, self.budget)

    def _host_modality(self, count: int, seed: int) -> Planned:
        counts = {**self.material.low_train, self.recipe.target: count}
        budget = methods.budget_for(
            self.budget.steps, sum(counts.values()), self.batch_size
        )
        sections = methods.host_modality(
            self.recipe, self._all(count, seed), counts, budget, seed, self.host_only
        )
        planned = self._of(count, seed, [budget])
        too_far = methods.too_far(budget, self.budget.steps)
        if reason := methods.host_lacks(self.recipe) or too_far:
            planned.content['cannot'] = reason
        return self._with_training(planned, sections, budget, host=True)

    def _transfer(self, count: int, seed: int) -> Planned:
        first, second = self.budget.split(self.study.low_share)
        planned = self._of(count, seed, [first, second])
        planned.content['needs'] = [f'{self.low_name}/seed{seed}']
        checkpoint = str(self._low_checkpoint(seed, first))
        folds = len(self.recipe.others) > 1
        if folds:
            stage = {'kind': 'fold', 'folder': '.', 'fidelity': self.recipe.low}
            planned.content['stages'].append(stage)
            checkpoint = str(self._folder(planned.name) / FOLDED)
        sections = methods.transfer(
            self.recipe, self._target(count, seed), second, seed, checkpoint
        )
        if folds:  # weights of the other fidelities have become biases
            sections['model']['use_bias_in_linear'] = True
        return self._with_training(planned, sections, second)

    def _delta(self, count: int, seed: int) -> Planned:
        first, second = self.budget.split(self.study.low_share)
        planned = self._of(count, seed, [first, second])
        planned.content['needs'] = [f'{self.low_name}/seed{seed}']
        folder = self._folder(planned.name)
        has_valid = self.recipe.target in self.recipe.valid
        files = [str(folder / name) for name in DIFFERENCES]
        if not has_valid:
            files[1] = ''
        stage = {
            'kind': 'differences',
            'folder': 'differences',
            'fidelity': self.recipe.low,
            'train': self._target(count, seed)[self.recipe.target],
            'valid': list(self.recipe.valid.get(self.recipe.target, ())),
            'paired': self.material.file(PAIRED),
        }
        planned.content['stages'].append(stage)
        sections = methods.difference(
            self.recipe, (files[0], files[1]), second, seed
        )
        return self._with_training(planned, sections, second)

    # ---- parts of a run

    def _of(self, count: int, seed: int, budgets: list[Budget]) -> Planned:
        return self._planned(
            f'{self.name}/n{count}_seed{seed}', count, seed, budgets
        )

    def _planned(
        self, name: str, count: int, seed: int, budgets: list[Budget]
    ) -> Planned:
        material = self.material
        content = {
            'name': name,
            'row': self.name,
            'method': self.method,
            'labels': count,
            'seed': seed,
            'steps': [budget.steps for budget in budgets],
            'needs': [],
            'stages': [],
            'target': self.recipe.target,
            'low': self.recipe.low,
            'low_labels': sum(material.low_train.values()),
            'test': [material.test_entry],
            'test_structures': material.test,
            'test_low_labelled': material.test_low_labelled,
            'checkpoint': self.study.checkpoint,
        }
        device = self.recipe.sections.get('train', {}).get('device', 'auto')
        if device != 'auto':
            content['device'] = device
        return Planned(content)

    def _with_training(
        self, planned: Planned, sections: Config, budget: Budget, host: bool = False
    ) -> Planned:
        """Add the training stage, the last one of every run."""
        file = f'{TRAINING}.yaml'
        stage = {
            'kind': 'train',
            'folder': TRAINING,
            'yaml': file,
            'epochs': budget.epochs,
            'steps': budget.steps,
            'host': host,
        }
        planned.content['stages'].append(stage)
        planned.yamls[file] = sections
        if not host:
            check(sections, f'{planned.name}/{file}')
        return planned

    def _folder(self, name: str) -> Path:
        return self.out / 'runs' / name

    def _low_checkpoint(self, seed: int, budget: Budget) -> Path:
        folder = self._folder(f'{self.low_name}/seed{seed}') / TRAINING
        return folder / checkpoint_name(self.study.checkpoint, budget.epochs)

    def _target(self, count: int, seed: int) -> dict[str, list[Config]]:
        return {self.recipe.target: [self.material.label_entry(seed, count)]}

    def _others(self) -> dict[str, list[Config]]:
        return {n: [self.material.train_entry(n)] for n in self.recipe.others}

    def _all(self, count: int, seed: int) -> dict[str, list[Config]]:
        every = {**self._others(), **self._target(count, seed)}
        return {name: every[name] for name in self.recipe.order}


# ---- all rows of a study


def rows_of(study: Study, base: Base, material: Material, out: Path) -> list[Row]:
    """Return the methods and variants of a study.

    Raises:
        UserError: For a variant that cannot be trained.
    """
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
    run = checked(sections, f'study.variants.{name}' if change else name)
    # also for SevenNet's own training: rows should differ only in their method
    sections['train'] = recipe.written(sections.get('train') or {}, run.defaults)
    in_a_pass = math.ceil(material.given / base.batch_size)
    per_epoch = base.steps_per_epoch or max(base.least_steps, in_a_pass)
    made = StudyRecipe(
        sections=sections,
        budget=Budget(base.epochs, per_epoch),
        order=base.order,
        target=base.target,
        low=base.low,
        elements=material.elements,
        valid=material.valid_entries(),
    )
    budget = budget_of(study.steps, base.epochs, per_epoch)
    return Row(
        name, method, made, budget, host_only, run.batch_size, study, material, out
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
