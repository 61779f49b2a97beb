"""Reading study.yaml: block by block, with errors that say what to change."""

from __future__ import annotations

import os
from typing import Any, Final

from sevennet_mf.config import inputs
from sevennet_mf.config.blocks import NAME_PATTERN, DataEntry, validate
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.study.plan.config import (
    LOW,
    METHODS,
    RunOptions,
    Split,
    Study,
    Variant,
)

# what `set` of a variant may not change: the study does, or the data would differ
STUDYS_OWN: Final[tuple[str, ...]] = (
    'model.chemical_species',
    'train.epoch',
    'train.per_epoch',
    'train.random_seed',
    'train.continue',
    'train.fidelity.target',
    'train.fidelity.steps_per_epoch',
    'data.data_divide_ratio',
    'data.fidelity.order',
    'data.fidelity.base',
    'data.fidelity.key',
)


def read_study(path: str) -> Study:
    """Return what a study.yaml says, its paths made absolute.

    Raises UserError, one line, for a file that cannot be read and for whatever it
    says that cannot be meant.
    """
    content = inputs.load_yaml(path)
    if 'study' not in content:
        raise UserError(
            f'{path} has no block `study`. It is a training YAML, perhaps: name '
            'that under study.input_yaml.'
        )
    for name in content:
        if name != 'study':
            raise unknown(f'a section of {path}', name, ['study'])
    study = _validated(content['study'])
    _check_rows(study)
    _check_test(study)
    return _with_paths(study, os.path.dirname(os.path.abspath(path)))


def _validated(values: Any) -> Study:
    """Block by block, so that an error speaks of the block it is in."""
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
                f'study.methods: {name!r} is a variant, which runs by itself. Take '
                'it out of the methods.'
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
                f'{where}: {name!r} names a folder, so it must be a word of '
                'letters, digits and _ . + -'
            )
        if variant.method not in METHODS:
            raise unknown(f'{where}.method', variant.method, METHODS)
        for path in _paths(variant.set):
            owned = any(f'{path}.'.startswith(f'{own}.') for own in STUDYS_OWN)
            if owned or path.startswith('data.load_'):
                raise UserError(
                    f'{where}.set: {path} is the same for all rows of a study. Take '
                    'it out.'
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
            'study.test and study.split both give a test set. Remove one of them.'
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
                f'study.split.{name} has no meaning for by: {split.by}, which reads '
                f'{" or ".join(reads[split.by])}. Take it out.'
            )
    given = [name for name in reads[split.by] if getattr(split, name) is not None]
    if len(given) != 1:
        raise UserError(
            f'study.split: by: {split.by} needs {" or ".join(reads[split.by])}, and '
            f'{"both are" if given else "none is"} given.'
        )


def _with_paths(study: Study, folder: str) -> Study:
    """The same study, files counted from the folder of its YAML."""

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
