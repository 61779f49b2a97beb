"""From study.yaml to the folders of its runs; nothing is trained here."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import sevenn
import yaml

import sevennet_mf
from sevennet_mf.errors import UserError
from sevennet_mf.study.base import read_base
from sevennet_mf.study.config import Study
from sevennet_mf.study.material import Material, gather
from sevennet_mf.study.rows import Planned, Row
from sevennet_mf.study.runs import Run, as_json
from sevennet_mf.study.status import RUN_FILE
from sevennet_mf.study.variants import rows_of
from sevennet_mf.train.checkpoint import write_whole

__all__ = ['STUDY_FILE', 'Run', 'plan']

STUDY_FILE: Final[str] = 'study.json'


def plan(study: Study, out: str | Path, dry_run: bool = False) -> list[Run]:
    """Write the folders of a study's runs, and return the runs, needed ones first.

    What is there and the same is left alone, so that an interrupted study goes on
    and new rows, labels or seeds are added. dry_run: write nothing that was not
    there. Raises UserError for a study that cannot be, and one that names the run
    and the file if a run that is there would have to be another.
    """
    folder = Path(out).absolute()
    was_there = folder.exists()
    try:
        runs = _plan(study, folder, write=not dry_run)
    finally:
        if dry_run and not was_there:
            shutil.rmtree(folder, ignore_errors=True)
    return runs


def _plan(study: Study, out: Path, write: bool) -> list[Run]:
    base = read_base(study.input_yaml)
    is_new = next((out / 'runs').glob(f'*/*/{RUN_FILE}'), None) is None
    material = gather(study, base, out, may_change=is_new)
    counts = sorted({material.pool if n == 'all' else n for n in study.labels})
    rows = rows_of(study, base, material, out)
    planned: dict[str, Planned] = {}
    for row in rows:
        for run in row.runs(counts):
            planned.setdefault(run.name, run)  # the low model is needed twice
    folders = {name: out / 'runs' / name for name in planned}
    texts = {name: dict(_texts(run)) for name, run in planned.items()}
    for name, files in texts.items():
        _refuse_change(name, folders[name], files)
    if write:
        for name, files in texts.items():
            _write(folders[name], files)
        about = as_json(_resolved(study, base.order, material, rows, counts))
        write_whole(str(out / STUDY_FILE), partial(_put, about))
    return [Run.of(run.content, folders[n]) for n, run in planned.items()]


def _texts(run: Planned) -> Iterable[tuple[str, str]]:
    for name, sections in run.yamls.items():
        yield name, yaml.dump(sections, Dumper=_Dumper, sort_keys=False)
    yield RUN_FILE, as_json(run.content)  # last: a folder with it is whole


class _Dumper(yaml.SafeDumper):
    """Writes a list that occurs twice twice: `&id001` is nothing to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _refuse_change(name: str, folder: Path, files: dict[str, str]) -> None:
    """UserError if a run that is there is another one than is planned now."""
    if not (folder / RUN_FILE).is_file():
        return
    for file, text in files.items():
        path = folder / file
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            raise UserError(
                f'the run {name} is there already, and its {file} would change: '
                'study.yaml, input_yaml or the data are not what they were. Choose '
                'another folder with -o, or undo the change.'
            )


def _write(folder: Path, files: dict[str, str]) -> None:
    if (folder / RUN_FILE).is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{folder} cannot be made: {error.strerror}.') from None
    for file, text in files.items():
        write_whole(str(folder / file), partial(_put, text))


def _put(text: str, stream: IO[bytes]) -> None:
    stream.write(text.encode())


def _resolved(
    study: Study,
    order: tuple[str, ...],
    material: Material,
    rows: list[Row],
    counts: list[int],
) -> dict[str, Any]:
    """What study.json says: the study as it is done."""
    split = study.split and study.split.model_dump(exclude_none=True)
    return {
        'input_yaml': study.input_yaml,
        'target': material.target,
        'low': rows[0].recipe.low,
        'order': list(order),
        'methods': study.methods,
        'variants': {name: v.model_dump() for name, v in study.variants.items()},
        'labels': counts,
        'seeds': study.seeds,
        'steps': rows[0].budget.steps,
        'low_share': study.low_share,
        'checkpoint': study.checkpoint,
        'test': {
            'from': 'files' if split is None else split,
            'structures': material.test,
            'low_labelled': material.test_low_labelled,
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
    }
