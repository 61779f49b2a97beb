"""study.json: what a study does, and what all its runs have in common."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sevenn

import sevennet_mf
from sevennet_mf.errors import UserError
from sevennet_mf.files import read_json
from sevennet_mf.study.plan.base import Base
from sevennet_mf.study.plan.material import Material
from sevennet_mf.study.plan.methods import Config
from sevennet_mf.study.plan.rows import Row
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.status import STUDY_FILE, nothing_done

# keys of study.json that runs of one study cannot differ in
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
    """Return what study.json says: the study as it is done.

    rows: method and changes of each by name, in the order of tables.
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
    """Data are left out: OUT/data holds them, and is compared by itself."""
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
    """Return `about` with the rows that only an earlier call has runs of apart.

    planned: names of runs; what one of them was made with does not count if it
    failed or never began. Raises UserError, naming the key and both values, if the
    others were made with other settings: they could not be compared.
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
            f'the runs in {os.path.relpath(out)} were made with {path}: {old}, and '
            f'now it is {new}. They could not be compared: choose another folder '
            'with -o, or undo the change.'
        )


def first_change(was: Any, now: Any) -> str:
    """Return 'train.epoch: 3 -> 4' of the first difference of two blocks."""
    for path, old, new in _differing(was, now, ''):
        return f'{path}: {old} -> {new}'
    return 'in its order'


def _differing(was: Any, now: Any, path: str) -> Iterable[tuple[str, str, str]]:
    """(path, old value, new value) of every difference of two blocks."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*was, *now]):
            yield from _differing(was.get(name), now.get(name), f'{path}{name}.')
    elif was != now:
        said = ['not given' if value is None else str(value) for value in (was, now)]
        yield path.removesuffix('.'), said[0], said[1]
