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
from sevennet_mf.study.plan import study_json
from sevennet_mf.study.plan.data_folder import FOLDER, gather
from sevennet_mf.study.plan.input_yaml import read_base
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
    """Write the folders of a study's runs.

    Existing runs that are the same are left alone, so that an interrupted study can
    be resumed, and new rows, labels or seeds can be added. A run that failed or
    never started may be replaced; its files are set aside.

    Args:
        study: From `read_study`.
        out: Folder of the study.
        dry_run: Write nothing.
        command: The command that was called, for study.json.

    Returns:
        The runs, needed ones first.

    Raises:
        UserError: For a study that is not possible; or if an existing run would
            have to change, with the name of the key or the file.
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
        said = study_json.joined(folder, said, set(texts))
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
    said = study_json.describe(study, base, material, rows, counts)
    # as it would be read from the file, for comparison
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
    """Writes repeated lists in full: `&id001` is hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _refuse_change(name: str, folder: Path, files: dict[str, str]) -> None:
    """UserError if an existing run differs from the one that is planned now."""
    if not (folder / RUN_FILE).is_file():
        return
    for file, was, text in _changed(folder, files):
        own = str(folder.parents[len(Path(name).parts)])
        if was and own not in was and own in text:
            raise UserError(
                f'the run {name} already exists, but its {file} names files in '
                'another folder: the study was moved. Move it back, or choose '
                'another folder with -o; --report_only works in its new place.'
            )
        what = study_json.first_change(yaml.safe_load(was), yaml.safe_load(text))
        raise UserError(
            f'the run {name} already exists, but its {file} would change ({what}), '
            'because study.yaml, input_yaml or the data have changed. Choose '
            'another folder with -o, or undo the change.'
        )


def _changed(
    folder: Path, files: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    """(file, existing text, planned text) where these differ."""
    for file, text in files.items():
        path = folder / file
        was = path.read_text(encoding='utf-8') if path.is_file() else ''
        if was != text:
            yield file, was, text


def _set_aside(out: Path, name: str, files: dict[str, str]) -> None:
    """Make room for a run that has changed; files of a failed one are kept."""
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
