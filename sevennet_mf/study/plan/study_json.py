"""study.json: what a study does, and what its runs have in common."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sevenn

import sevennet_mf
from sevennet_mf.errors import UserError
from sevennet_mf.files import read_json
from sevennet_mf.study.plan.data_folder import Material
from sevennet_mf.study.plan.input_yaml import Base
from sevennet_mf.study.plan.methods import Config
from sevennet_mf.study.plan.rows import Row
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.status import STUDY_FILE, nothing_done

# keys of study.json that must be the same for all runs of a study
SHARED = 'shared'
ROWS = 'rows'
WITHDRAWN = 'withdrawn'  # rows with runs that study.yaml no longer has


def describe(
    study: Study,
    base: Base,
    material: Material,
    rows: Sequence[Row],
    counts: Sequence[int],
) -> Config:
    """Return the content of study.json: the study as it is run.

    Args:
        rows: In the order of tables.
        counts: Numbers of labels.
    """
    split = study.split and study.split.model_dump(exclude_none=True)
    return {
        'input_yaml': study.input_yaml,
        'target': material.target,
        'low': base.low,
        'order': list(base.order),
        'methods': study.methods,
        ROWS: _rows(study),
        'labels': list(counts),
        'seeds': study.seeds,
        'steps': rows[0].budget.steps,
        'batch_size': base.batch_size,
        'low_share': study.low_share,
        'checkpoint': study.checkpoint,
        'test_structures': material.test,
        'test': {
            'from': 'files' if split is None else split,
            'structures': material.test,
            'low_labelled': material.test_low_labelled,
            'doubt': material.doubt,
        },
        'training': {
            'pool': material.pool,
            'pool_low_labelled': material.paired,
            'others': dict(material.low_train),
        },
        'validation': {material.target: material.valid, **material.low_valid},
        'elements': list(material.elements),
        'versions': {
            'sevennet_mf': sevennet_mf.__version__,
            'sevenn': sevenn.__version__,
        },
        SHARED: _shared(study, base, rows[0]),
    }


def _rows(study: Study) -> dict[str, Config]:
    methods = {name: {'method': name, 'set': {}} for name in study.methods}
    return {**methods, **{n: v.model_dump() for n, v in study.variants.items()}}


def _shared(study: Study, base: Base, row: Row) -> Config:
    """Data are left out: they are in OUT/data, which is compared on its own."""
    sections = {
        name: {k: v for k, v in block.items() if not str(k).startswith('load_')}
        for name, block in base.sections.items()
        if isinstance(block, Mapping)
    }
    return {
        'steps': row.budget.steps,
        'low_share': study.low_share,
        'checkpoint': study.checkpoint,
        'input_yaml': sections,
    }


def joined(out: Path, about: Config, planned: Container[str]) -> Config:
    """Return `about`, with rows that only an earlier call had listed separately.

    Args:
        out: Folder of the study.
        about: What `describe` returned.
        planned: Names of runs. The settings of one of them do not count if it
            failed or never started.

    Raises:
        UserError: Names the key and both values if the other runs were made with
            different settings, so that they could not be compared.
    """
    before = read_json(out / STUDY_FILE)
    there = {
        path.parent.name
        for path in (out / 'runs').glob('*/*/')
        if not nothing_done(path)
        or f'{path.parent.name}/{path.name}' not in planned
    }
    known = {**(before.get(WITHDRAWN) or {}), **(before.get(ROWS) or {})}
    rows = {n: r for n, r in known.items() if n in there}
    if there:
        _refuse(out, before.get(SHARED), about[SHARED])
    for name, row in rows.items():
        if name in about[ROWS]:
            _refuse(out, row, about[ROWS][name], f'variants.{name}.')
    gone = {name: row for name, row in rows.items() if name not in about[ROWS]}
    return {**about, WITHDRAWN: gone} if gone else about


def _refuse(out: Path, was: Any, now: Any, above: str = '') -> None:
    if was is None:
        return
    for path, old, new in _differing(was, now, above):
        raise UserError(
            f'the runs in {os.path.relpath(out)} were made with {path}: {old}, but '
            f'now it is {new}, so they could not be compared. Choose another folder '
            'with -o, or undo the change.'
        )


def first_change(was: Any, now: Any) -> str:
    """Return the first difference of two blocks as 'train.epoch: 3 -> 4'."""
    for path, old, new in _differing(was, now, ''):
        return f'{path}: {old} -> {new}'
    return 'the order of its keys'


def _differing(was: Any, now: Any, path: str) -> Iterable[tuple[str, str, str]]:
    """(path, old value, new value) of every difference of two blocks."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*was, *now]):
            yield from _differing(was.get(name), now.get(name), f'{path}{name}.')
    elif was != now:
        said = ['not given' if value is None else str(value) for value in (was, now)]
        yield path.removesuffix('.'), said[0], said[1]
