"""A checkpoint on labelled data: errors per fidelity, CSV files and pictures."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from sevennet_mf import inputs, keys
from sevennet_mf.config import DataEntry, validate
from sevennet_mf.data.build import load_or_build
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.errors import UserError, nearest
from sevennet_mf.train.load import LoadedModel, load_model
from sevennet_mf.train.plots import parity
from sevennet_mf.train.predict import Predictions, match_fidelities, predict
from sevennet_mf.train.tables import (
    Errors,
    error_table,
    errors,
    render,
    structure_table,
    write_csv,
)

__all__ = ['Errors', 'Evaluation', 'errors', 'evaluate', 'render', 'run', 'write']

Entry = dict[str, Any]
TRAINING_SET = 'load_trainset_path'


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found, a row per fidelity, and the files it wrote."""

    rows: list[Errors]
    predictions: Predictions
    files: list[str]


def evaluate(
    checkpoint: str,
    data: str | Sequence[Entry],
    output_dir: str,
    *,
    sets: Sequence[str] | None = None,
    key: str | None = None,
    fidelities: Sequence[str] | None = None,
    predict_as: str | None = None,
    batch_size: int = 8,
    device: str = 'cpu',
    progress: bool = True,
    cores: int = 1,
) -> Evaluation:
    """Measure a checkpoint on data, and write CSV files and parity plots.

    checkpoint: path or pretrained name; data: entries as in `load_*_path`, or a YAML
    whose sets other than the training set count, or those in `sets`
    ('validset', 'trainset', ...); key: as data.fidelity.key, fidelities: the names
    it may give (default: the model's, or those of the YAML); predict_as: predict
    all at this fidelity of the model. Files: errors.csv, per_structure.csv,
    parity_<fidelity>.png. Raises UserError for whatever cannot be used or written.
    """
    _make_folder(output_dir)  # before the work, not after it
    loaded = load_model(checkpoint)
    if isinstance(data, str):
        entries, key, known = entries_of_yaml(data, sets, key)
        fidelities = fidelities or known
    else:
        entries = [_checked(entry, i) for i, entry in enumerate(data)]
    entries = [_with_fidelity(e, loaded, key, predict_as) for e in entries]
    named = [e['fidelity'] for e in entries if 'fidelity' in e]
    match_fidelities(loaded.fidelities, named, predict_as, loaded.path)
    extra = fidelities or loaded.fidelities if key else ()
    names = list(dict.fromkeys([*named, *extra]))
    def measure(folder: str) -> Predictions:
        parts = [
            load_or_build(e, key, names, loaded.cutoff, Path(folder), cores)
            for e in entries
        ]
        dataset = FidelityDataset(parts, names)
        # a model of one fidelity does not know its name, only its provenance does
        wanted = None if len(loaded.fidelities) == 1 else predict_as
        found = predict(loaded.model, dataset, batch_size, device, progress, wanted)
        targets = match_fidelities(loaded.fidelities, found.fidelities, predict_as)
        return replace(found, predicted_as=targets)

    # not in /tmp, which may be small or memory; a function of its own, so that no
    # file is still mapped when the folder goes
    with tempfile.TemporaryDirectory(
        dir=output_dir, prefix='.graphs_', ignore_cleanup_errors=True
    ) as folder:
        predictions = measure(folder)
    return write(predictions, output_dir)


def run(args: argparse.Namespace) -> Table:
    """`sevennet-mf evaluate` with the command line's arguments; returns the table.

    data: files, or one YAML. Raises UserError as evaluate.
    """
    labels = {
        name: None if value == 'none' else value
        for name in ('energy_key', 'force_key', 'stress_key')
        if (value := getattr(args, name)) is not None
    }
    if args.fidelity:
        labels['fidelity'] = args.fidelity
    data: str | list[Entry] = [{'file': list(args.data), **labels}]
    if any(name.endswith(('.yaml', '.yml')) for name in args.data):
        if len(args.data) > 1 or labels:
            raise UserError(
                'a YAML says by itself which files and labels there are: give it '
                f'alone, without {[*labels] or "other files"}.'
            )
        data = args.data[0]
    elif args.set:
        raise UserError(f'--set {args.set} chooses a set of a YAML; give one as data.')
    evaluation = evaluate(
        args.checkpoint,
        data,
        args.output,
        sets=[args.set] if args.set else None,
        key=args.key,
        predict_as=args.predict_as,
        batch_size=args.batch_size,
        device=args.device,
    )
    return render(evaluation.rows)


def write(
    predictions: Predictions,
    output_dir: str,
    fidelities: Sequence[str] | None = None,
) -> Evaluation:
    """Write errors.csv, per_structure.csv and the parity plots, each whole.

    Raises UserError if the folder cannot be written.
    """
    _make_folder(output_dir)
    rows = errors(predictions, fidelities)
    tables = {
        'errors.csv': error_table(rows),
        'per_structure.csv': structure_table(predictions),
    }
    files = []
    for name, table in tables.items():
        files.append(os.path.join(output_dir, name))
        write_csv(files[-1], table)
    names = [row.fidelity for row in rows]
    files += parity(predictions, names, os.path.join(output_dir, ''))
    return Evaluation(rows, predictions, files)


def entries_of_yaml(
    path: str, sets: Sequence[str] | None = None, key: str | None = None
) -> tuple[list[Entry], str | None, list[str]]:
    """Return (entries, data.fidelity.key, data.fidelity.order) of a YAML.

    sets: 'validset', 'trainset', ...; default: all but the training set. A YAML of
    SevenNet without a fidelity works too; its modalities count as fidelities.
    Raises UserError if there is no such set.
    """
    sections = inputs.load_yaml(path)
    order: list[str] = []
    if inputs.has_fidelity(sections):
        _, _, config = inputs.from_sections(sections)
        options = config[keys.FIDELITY_DATA]
        order, key = list(options['order']), key or options['key']
    else:
        config = sections.get('data') or {}
    found = {
        re.sub(r'^load_(.*)_path$', r'\1', name): value
        for name, value in config.items()
        if re.fullmatch(r'load_.*_path', str(name)) and value
    }
    training = TRAINING_SET.removeprefix('load_').removesuffix('_path')
    chosen = list(sets or [name for name in found if name != training])
    for name in chosen:
        if name not in found:
            raise UserError(
                f'{path} has no set {name!r}.{nearest(name, found)} It has '
                f'{list(found)}.'
            )
    if not chosen:
        raise UserError(
            f'{path} names no data but the training set. Add load_validset_path, or '
            f'choose {training!r}.'
        )
    listed = [entry for name in chosen for entry in _plain(found[name])]
    return [_checked(entry, i) for i, entry in enumerate(listed)], key, order


def _plain(value: Any) -> Iterable[Entry]:
    """The entries of one `load_*_path`, the host's ways to write it included."""
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, Mapping):
            yield {'file': entry}
        elif 'file_list' in entry:
            own = {'fidelity': f} if (f := entry.get('data_modality')) else {}
            for inner in entry['file_list']:
                yield {**_one(inner), **own}
        else:
            yield dict(entry)


def _one(entry: Any) -> Entry:
    return dict(entry) if isinstance(entry, Mapping) else {'file': entry}


def _checked(entry: Entry, number: int) -> Entry:
    where = f'entry {number + 1} of the data'
    plain = validate(DataEntry, entry, where).model_dump(exclude_unset=True)
    files = plain['file'] if isinstance(plain['file'], list) else [plain['file']]
    plain['file'] = [path for name in files for path in inputs._expand(name, where)]
    return plain


def _with_fidelity(
    entry: Entry, loaded: LoadedModel, key: str | None, predict_as: str | None
) -> Entry:
    """Name the fidelity of an entry where only one is possible."""
    if 'fidelity' in entry or key is not None:
        return entry
    if predict_as is None and len(loaded.fidelities) > 1:
        raise UserError(
            f'{entry["file"][0]}: its fidelity is not named, and {loaded.path} has '
            f'{list(loaded.fidelities)}. Name the fidelity of the labels.'
        )
    return {**entry, 'fidelity': predict_as or loaded.fidelities[0]}


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f'{path} cannot be written: {error.strerror}. Choose another folder for '
            'the output.'
        ) from None


