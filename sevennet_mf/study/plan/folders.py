"""From study.yaml to the folders of its runs; nothing is trained here."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from sevennet_mf.data import extxyz
from sevennet_mf.errors import UserError
from sevennet_mf.files import as_json, make_folder, write_json, write_text
from sevennet_mf.study.plan import about
from sevennet_mf.study.plan.base import read_base
from sevennet_mf.study.plan.material import FOLDER, gather
from sevennet_mf.study.plan.methods import Config
from sevennet_mf.study.plan.rows import Planned, rows_of
from sevennet_mf.study.plan.study_yaml import Study
from sevennet_mf.study.runs import Run
from sevennet_mf.study.status import (
    FAILED_FILE,
    RUN_FILE,
    STUDY_FILE,
    nothing_done,
)

__all__ = ['Run', 'plan']


def plan(
    study: Study, out: str | Path, dry_run: bool = False, command: str = ''
) -> list[Run]:
    """Write the folders of a study's runs, and return the runs, needed ones first.

    What is there and the same is left alone, so that an interrupted study goes on
    and new rows, labels or seeds are added. dry_run: write nothing; command: what
    was called, for study.json. Raises UserError for a study that cannot be, and
    one that names the key or the file if a run that is there would have to be
    another. One that failed or never began may become another; what it left is
    set aside.
    """
    folder = Path(out).absolute()
    is_new = next((folder / 'runs').glob(f'*/*/{RUN_FILE}'), None) is None
    if dry_run:
        with tempfile.TemporaryDirectory(prefix='sevennet_mf_') as temporary:
            at = Path(temporary)
            planned, said = _planned(study, at, may_change=True)
            if not is_new:
                extxyz.refuse_other(at / FOLDER, folder / FOLDER)
        planned = [_moved(run, at, folder) for run in planned]
    else:
        planned, said = _planned(study, folder, may_change=is_new)
    texts = {run.name: dict(_texts(run)) for run in planned}
    for name, files in texts.items():
        if not nothing_done(folder / 'runs' / name):
            _refuse_change(name, folder / 'runs' / name, files)
    if not is_new:
        said = about.joined(folder, said, set(texts))
    if not dry_run:
        for name, files in texts.items():
            _set_aside(folder, name, files)
            _write(folder / 'runs' / name, files)
        said = {**said, 'command': command} if command else said
        write_json(folder / STUDY_FILE, said)
    return [Run.of(run.content, folder / 'runs' / run.name) for run in planned]


def _planned(
    study: Study, out: Path, may_change: bool
) -> tuple[list[Planned], Config]:
    """Write OUT/data; return the runs and what study.json says."""
    base = read_base(study.input_yaml)
    material = gather(study, base, out, may_change)
    counts = sorted({material.pool if n == 'all' else n for n in study.labels})
    rows = rows_of(study, base, material, out)
    planned: dict[str, Planned] = {}
    for row in rows:
        for run in row.runs(counts):
            planned.setdefault(run.name, run)  # the low model is needed twice
    said = about.describe(study, base, material, rows, counts)
    # as it will be read from the file, to be compared
    return list(planned.values()), json.loads(as_json(said))


def _moved(run: Planned, at: Path, to: Path) -> Planned:
    """The same run in another folder."""

    def moved(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(f'{at}{os.sep}'):
            return f'{to}{value[len(str(at)) :]}'
        if isinstance(value, list):
            return [moved(part) for part in value]
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        return value

    return Planned(moved(run.content), moved(run.yamls))


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
    for file, was, text in _changed(folder, files):
        own = str(folder.parents[len(Path(name).parts)])
        if was and own not in was and own in text:
            raise UserError(
                f'the run {name} is there already, and its {file} names files of '
                'another folder: the study was moved. Move it back, or choose '
                'another folder with -o; --report_only works where it is.'
            )
        what = about.first_change(yaml.safe_load(was), yaml.safe_load(text))
        raise UserError(
            f'the run {name} is there already, and its {file} would change '
            f'({what}), as study.yaml, input_yaml or the data are not what they '
            'were. Choose another folder with -o, or undo the change.'
        )


def _changed(
    folder: Path, files: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    """(file, text that is there, text that is planned) where these differ."""
    for file, text in files.items():
        path = folder / file
        was = path.read_text(encoding='utf-8') if path.is_file() else ''
        if was != text:
            yield file, was, text


def _set_aside(out: Path, name: str, files: dict[str, str]) -> None:
    """Make room for a run that is another one now; what failed is kept."""
    folder = out / 'runs' / name
    if not nothing_done(folder) or not any(_changed(folder, files)):
        return
    if not (folder / FAILED_FILE).is_file():  # nor begun
        (folder / RUN_FILE).unlink(missing_ok=True)
        return
    to = next(
        path
        for path in (out / 'failed' / f'{name}_{k}' for k in itertools.count(1))
        if not path.exists()
    )
    make_folder(to.parent)
    folder.rename(to)


def _write(folder: Path, files: dict[str, str]) -> None:
    if (folder / RUN_FILE).is_file():
        return
    make_folder(folder)
    for file, text in files.items():
        write_text(folder / file, text)
