"""A checkpoint on labelled data: errors per fidelity, CSV files and pictures."""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.table import Table

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.config.option_words import ENTRY, in_options, said_in_options
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.formats import mace
from sevennet_mf.data.processed.build import load_or_build
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.entries import (
    Entry,
    all_checked,
    entries_of_yaml,
    names_in,
    with_fidelity,
)
from sevennet_mf.evaluate.metrics import (
    FidelityErrors,
    error_table,
    errors,
    render,
    structure_table,
)
from sevennet_mf.evaluate.parity import parity
from sevennet_mf.evaluate.predict import match_fidelities, predict
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.files import make_folder, write_csv
from sevennet_mf.model.load import LoadedModel, load_model

OTHER = 'Choose another folder for the output.'

__all__ = [
    'Evaluation',
    'FidelityErrors',
    'errors',
    'evaluate',
    'render',
    'run',
    'write',
]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        rows: Errors, one row a fidelity.
        predictions: Predictions beside labels, of every structure.
        files: Paths of what was written.
    """

    rows: list[FidelityErrors]
    predictions: Predictions
    files: list[str]


def evaluate(
    checkpoint: str,
    data: str | Sequence[Entry],
    output_dir: str,
    *,
    sets: Sequence[str] | None = None,
    key: str | None = None,
    predict_as: str | None = None,
    batch_size: int = 8,
    device: str = 'cpu',
    progress: bool = True,
    trust: bool = False,
    told: Callable[[str], str] = str,
) -> Evaluation:
    """Measure a checkpoint on data, and write CSV files and parity plots.

    Args:
        checkpoint: Path of a checkpoint, or the name of a pretrained model.
        data: Entries as in `load_*_path` of a YAML; or the path of a YAML, of which
            all sets but the training set count, or those in `sets`.
        output_dir: Folder for errors.csv, per_structure.csv and
            parity_<fidelity>.png.
        sets: Names of sets of the YAML: `'validset'`, `'trainset'`, ...
        key: As `data.fidelity.key` of a YAML.
        predict_as: Predict everything at this fidelity of the model.
        batch_size: Structures at a time.
        device: `'cpu'`, `'cuda'`, or `'auto'` for a GPU if there is one.
        progress: Show a bar, if there is a terminal.
        trust: Read a checkpoint and graph files that run code; only for ones you
            made yourself.
        told: Rewords warnings about the data; default: as they are.

    Returns:
        The errors of each fidelity (meV/atom, meV/Å, kbar), the predictions, and
        the files.

    Raises:
        UserError: Something of this cannot be used, or not be written.
    """
    if batch_size < 1:
        raise UserError(f'--batch_size must be 1 or more, got {batch_size}.')
    make_folder(output_dir, OTHER, to_write=True)  # before the work, not after it
    loaded = load_model(checkpoint, trust=trust)
    for line in loaded.differences.values():
        warnings.warn(line, stacklevel=2)
    # not in /tmp, which may be small, or memory
    with unpickle.trusting(trust), tempfile.TemporaryDirectory(
        dir=output_dir, prefix='.graphs_', ignore_cleanup_errors=True
    ) as folder:
        entries, key, named = _asked(loaded, data, sets, key, predict_as)
        parts = [
            load_or_build(entry, key, named, loaded.cutoff, Path(folder))
            for entry in entries
        ]
        dataset = FidelityDataset(parts, named)
        for line in dataset.lines(only_loud=True):
            warnings.warn(told(line), stacklevel=2)
        predictions = _predict(
            loaded, dataset, batch_size, device, progress, predict_as
        )
        del parts, dataset  # they hold files of the folder that goes now
    return write(predictions, output_dir)


def _asked(
    loaded: LoadedModel,
    data: str | Sequence[Entry],
    sets: Sequence[str] | None,
    key: str | None,
    predict_as: str | None,
) -> tuple[list[Entry], str | None, list[str]]:
    """The entries, the key of their fidelity, and all their fidelities."""
    names: list[str] = []
    if isinstance(data, str):
        entries, key, names = entries_of_yaml(data, sets, key)
    else:
        entries = all_checked(data)
    entries = [with_fidelity(e, loaded, key, predict_as) for e in entries]
    named = [e['fidelity'] for e in entries if 'fidelity' in e]
    if key is not None and not names:
        named += names_in(entries, key, loaded.cutoff)
    match_fidelities(loaded.fidelities, named, predict_as, loaded.path)
    # in the model's order, so that tables of two models compare
    own = [name for name in loaded.fidelities if name in named]
    return entries, key, list(dict.fromkeys([*own, *names, *named]))


def _predict(
    loaded: LoadedModel,
    dataset: FidelityDataset,
    batch_size: int,
    device: str,
    progress: bool,
    predict_as: str | None,
) -> Predictions:
    # a model of one fidelity does not know its name, only its provenance does
    wanted = None if len(loaded.fidelities) == 1 else predict_as
    found = predict(loaded.model, dataset, batch_size, device, progress, wanted)
    targets = match_fidelities(loaded.fidelities, found.fidelities, predict_as)
    return replace(found, predicted_as=targets)


def run(args: argparse.Namespace) -> Table:
    """Run `sevennet-mf evaluate`; return the table of errors.

    Args:
        args: of the command line; `data` are files, or one YAML.

    Raises:
        UserError: As `evaluate`.
    """
    data, key = _typed(args)
    # the keys of an entry were typed as options, unless there is a YAML
    options = ENTRY if isinstance(data, list) else ()
    with said_in_options(options):
        evaluation = evaluate(
            args.checkpoint,
            data,
            args.output,
            sets=[args.set] if args.set else None,
            key=key,
            predict_as=args.predict_as,
            batch_size=args.batch_size,
            device=args.device,
            told=partial(in_options, options=options),
        )
    return render(evaluation.rows)


def _typed(args: argparse.Namespace) -> tuple[str | list[Entry], str | None]:
    """The data and the key of their fidelity that a command line names."""
    labels = {
        name: None if value == 'none' else value
        for name in ENTRY
        if (value := getattr(args, name, None)) is not None
    }
    if any(name.endswith(('.yaml', '.yml')) for name in args.data):
        if len(args.data) > 1 or labels:
            raise UserError(
                'a YAML already defines files and labels: give it without '
                f'{[*labels] or "other files"}.'
            )
        return args.data[0], args.key
    if args.set:
        raise UserError(f'--set {args.set} selects a set of a YAML: give a YAML.')
    # MACE names the level of each structure
    of_mace = labels.get('format') == 'mace' and not args.fidelity
    key = args.key or (mace.HEAD if of_mace else None)
    return [{'file': list(args.data), **labels}], key


def write(
    predictions: Predictions,
    output_dir: str,
    fidelities: Sequence[str] | None = None,
) -> Evaluation:
    """Write errors.csv, per_structure.csv and the parity plots.

    Args:
        fidelities: those to write, in this order; default: all there are.

    Raises:
        UserError: The folder cannot be written.
    """
    make_folder(output_dir, OTHER, to_write=True)
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


