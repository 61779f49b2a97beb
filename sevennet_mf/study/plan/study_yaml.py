"""study.yaml: its blocks, and reading them with errors that name the remedy.

The reference page in docs/ is generated from the descriptions in this file.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from sevennet_mf.config import inputs
from sevennet_mf.config.blocks import (
    NAME_PATTERN,
    Block,
    Count,
    DataEntry,
    not_bool,
    validate,
)
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.study.runs import LOW, METHODS


def _a_label_count(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not is_count and value != 'all':
        raise ValueError("must be a whole number of 1 or above, or 'all'")
    return value


LabelCount = Annotated[int | Literal['all'], BeforeValidator(_a_label_count)]
Share = Annotated[
    float, BeforeValidator(not_bool), Field(gt=0, lt=1, allow_inf_nan=False)
]
Seed = Annotated[int, BeforeValidator(not_bool), Field(ge=0)]
Words = Annotated[list[str], Field(min_length=1)]


class Split(Block):
    """`study.split`: a test set taken from the labels of the target."""

    by: Literal['random', 'composition', 'element'] = Field(
        description='`random`: structures chosen at random; `composition`: all '
        'structures with certain reduced formulas; `element`: all structures that '
        'contain an element.'
    )
    test: Share | None = Field(
        None,
        description='The share in the test set: of the structures (`random`) or of '
        'the formulas (`composition`).',
    )
    seed: Seed = Field(
        0, description='Seed that selects these structures or formulas.'
    )
    train: Words | None = Field(
        None,
        description='`composition`: the reduced formulas to train on, such as '
        '`GaN`; all others are tested.',
    )
    element: Words | None = Field(
        None, description='`element`: the elements whose structures are tested.'
    )
    anchors: Annotated[int, BeforeValidator(not_bool), Field(ge=0)] = Field(
        1,
        description='`element`: number of structures with each held-out element '
        'that stay in training, before all other labels. Without any, the '
        'reference energy of the element is not determined.',
    )


class Variant(Block):
    """An entry of `study.variants`: a method with another YAML."""

    method: str = Field(description='One of the methods.')
    set: dict[str, Any] = Field(
        default_factory=dict,
        description='Changes to input_yaml, block by block; `null` removes a key.',
    )


class RunOptions(Block):
    """`study.run`: where and how many at a time."""

    parallel: Count | Literal['auto'] = Field(
        'auto',
        description='Number of runs in parallel. `auto`: one per GPU, or as many '
        'as the cores allow.',
    )
    threads: Count = Field(1, description='Cores per run.')
    slurm: dict[str, Any] | None = Field(
        None,
        description='Run on a cluster through submitit (extra `slurm`), with its '
        'parameters: `partition`, `timeout_min`, `gpus_per_node`, ...',
    )


class Study(Block):
    """`study`: the whole of study.yaml."""

    input_yaml: str = Field(
        description='A multi-fidelity training YAML. Model, training, data and '
        'target are taken from it; paths in it are relative to its own folder.'
    )
    methods: Words = Field(
        list(METHODS),
        description=f'Any of {", ".join(f"`{name}`" for name in METHODS)}.',
    )
    labels: Annotated[list[LabelCount], Field(min_length=1)] = Field(
        ['all'],
        description='Numbers of target structures to train on, as a list; `all` '
        'stands for all there are. Smaller sets are included in larger ones.',
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        [1, 2, 3],
        description='Seeds of the initial weights, the batches, and the choice of '
        'labels.',
    )
    steps: Count | None = Field(
        None,
        description='Optimiser steps of every run. Default: those of input_yaml.',
    )
    low_share: Share = Field(
        0.5,
        description='`transfer` and `delta`: the share of the steps for the model '
        'of the other fidelities.',
    )
    test: list[DataEntry] | None = Field(
        None,
        description='The test set, with target labels: entries as in '
        '`load_validset_path`.',
    )
    split: Split | None = Field(
        None,
        description='Used instead of `test`: a test set taken from the '
        'training data of the target.',
    )
    checkpoint: Literal['best', 'last'] = Field(
        'best',
        description='Which checkpoint is evaluated, and used by later stages.',
    )
    variants: dict[str, Variant] = Field(
        default_factory=dict,
        description='More rows of the comparison, by name: `{method: ..., set: '
        '{...}}`.',
    )
    run: RunOptions = Field(
        RunOptions(parallel='auto', threads=1, slurm=None),
        description='Where the runs are done. This may change from call to call.',
    )

    @field_validator('labels', 'seeds')
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        return list(dict.fromkeys(values))


# ---- reading

# what `set` of a variant may not change: it is set by the study, or defines the data
STUDYS_OWN: Final[tuple[str, ...]] = (
    'model.chemical_species',
    'train.epoch',
    'train.per_epoch',
    'train.random_seed',
    'train.continue',
    'train.fidelity.target',
    'train.fidelity.steps_per_epoch',
    'train.fidelity.early_stopping',
    'data.data_divide_ratio',
    'data.fidelity.order',
    'data.fidelity.base',
    'data.fidelity.key',
)


def read_study(path: str) -> Study:
    """Read a study.yaml; paths are made absolute.

    Raises:
        UserError: If the file cannot be read, or for a wrong key or value.
    """
    content = inputs.load_yaml(path)
    if 'study' not in content:
        raise UserError(
            f'{path} has no block `study`. If it is a training YAML, name it under '
            'study.input_yaml of a study.yaml.'
        )
    for name in content:
        if name != 'study':
            raise unknown(f'a section of {path}', name, ['study'])
    study = _validated(content['study'])
    _check_rows(study)
    _check_test(study)
    return _with_paths(study, os.path.dirname(os.path.abspath(path)))


def _validated(values: Any) -> Study:
    """Validate block by block, so that an error names its block."""
    if isinstance(values, dict):
        values = dict(values)
        for name, block in (('split', Split), ('run', RunOptions)):
            if values.get(name) is not None:
                values[name] = validate(block, values[name], f'study.{name}')
            else:
                values.pop(name, None)
        variants = values.get('variants') or {}
        if isinstance(variants, dict):
            values['variants'] = {
                str(name): validate(Variant, given, f'study.variants.{name}')
                for name, given in variants.items()
            }
        if isinstance(tests := values.get('test'), list):
            values['test'] = [
                validate(
                    DataEntry,
                    {'file': entry} if isinstance(entry, str) else entry,
                    f'study.test[{i}]',
                )
                for i, entry in enumerate(tests)
            ]
    return validate(Study, values, 'study')


def _check_rows(study: Study) -> None:
    for name in study.methods:
        if name in study.variants:
            raise UserError(
                f'study.methods: {name!r} is a variant, which is always run. Remove '
                'it from the methods.'
            )
        if name not in METHODS:
            raise unknown('study.methods', name, METHODS)
    for name, variant in study.variants.items():
        where = f'study.variants.{name}'
        if name in METHODS or name == LOW or name.startswith(f'{LOW}_'):
            raise UserError(
                f'{where}: {name!r} is the name of a method. Call the variant '
                f'something else, such as {f"{name}_2".removeprefix(f"{LOW}_")!r}.'
            )
        if not NAME_PATTERN.fullmatch(name):
            raise UserError(
                f'{where}: {name!r} is used as the name of a folder, so it must '
                'consist of letters, digits and _ . + -'
            )
        if variant.method not in METHODS:
            raise unknown(f'{where}.method', variant.method, METHODS)
        for path in _paths(variant.set):
            owned = any(f'{path}.'.startswith(f'{own}.') for own in STUDYS_OWN)
            if owned or path.startswith('data.load_'):
                raise UserError(
                    f'{where}.set: {path} must be the same for all rows of a study. '
                    'Remove it.'
                )
            if path.split('.')[0] not in inputs.SECTIONS:
                raise unknown(f'{where}.set', path.split('.')[0], inputs.SECTIONS)


def _paths(block: dict[str, Any], above: str = '') -> list[str]:
    """'train.optim_param.lr' for every value of a block of blocks."""
    found = []
    for name, value in block.items():
        path = f'{above}{name}'
        found += _paths(value, f'{path}.') if isinstance(value, dict) else [path]
        found += [path] if value == {} else []
    return found


def _check_test(study: Study) -> None:
    if study.test and study.split is not None:
        raise UserError(
            'study.test and study.split both define a test set. Remove one of them.'
        )
    if not study.test and study.split is None:
        raise UserError(
            'study has no test set. Write `test: [{file: ..., fidelity: ...}]`, or '
            '`split: {by: random, test: 0.2}` to take one from the training data.'
        )
    if study.split is not None:
        _check_split(study.split)


def _check_split(split: Split) -> None:
    reads = {
        'random': ['test'],
        'composition': ['train', 'test'],
        'element': ['element'],
    }
    for name in ('test', 'train', 'element'):
        if getattr(split, name) is not None and name not in reads[split.by]:
            raise UserError(
                f'study.split.{name} has no effect with by: {split.by}, which uses '
                f'{" or ".join(reads[split.by])}. Remove it.'
            )
    given = [name for name in reads[split.by] if getattr(split, name) is not None]
    if len(given) != 1:
        raise UserError(
            f'study.split: by: {split.by} needs {" or ".join(reads[split.by])}, but '
            f'{"both are" if given else "none is"} given.'
        )


def _with_paths(study: Study, folder: str) -> Study:
    """The same study, with paths relative to the folder of its YAML."""

    def absolute(path: str) -> str:
        return os.path.normpath(os.path.join(folder, path))

    tests = None
    if study.test:
        tests = []
        for entry in study.test:
            files = (
                entry.file if isinstance(entry.file, list) else absolute(entry.file)
            )
            if isinstance(files, list):
                files = [absolute(name) for name in files]
            tests.append(entry.model_copy(update={'file': files}))
    return study.model_copy(
        update={'input_yaml': absolute(study.input_yaml), 'test': tests}
    )
