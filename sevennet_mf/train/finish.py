"""The end of a run: learning curves, parity of the best model, and results."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from sevenn.logger import Logger

from sevennet_mf import keys
from sevennet_mf.checkpoint.file import load
from sevennet_mf.data.dataset import DRIFT, is_validation
from sevennet_mf.evaluate.learning_curves import learning_curves
from sevennet_mf.evaluate.metrics import FidelityErrors, errors
from sevennet_mf.evaluate.parity import parity
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.evaluate.predictions import QUANTITIES, Predictions
from sevennet_mf.files import write_csv
from sevennet_mf.train.continuing import drift_report
from sevennet_mf.train.loop import run_folder

if TYPE_CHECKING:
    from sevennet_mf.data.dataset import FidelityDataset
    from sevennet_mf.train.continuing.start import Start
    from sevennet_mf.train.loop.fit import Fit


def draw(fit: Fit, start: Start | None = None) -> list[FidelityErrors]:
    """Write learning_curves.png and parity_<fidelity>.png.

    A run that monitors old fidelities of the checkpoint it starts from also gets
    drift.csv and drift.png, for the best checkpoint or, without one, the last.

    Parity is that of the best checkpoint on the validation sets; a fidelity that
    is in no validation set is shown on its training data. The trained model takes
    the weights of the file meanwhile: building another would take longer than
    drawing.

    Returns:
        The errors that the parity plots show.
    """
    log = Logger()
    picture = fit.path('learning_curves.png')
    drawn = learning_curves(fit.path(fit.state.curve), picture)
    paths, rows = [picture] if drawn else [], []
    best = os.path.isfile(fit.path(run_folder.BEST_FILE))
    name = run_folder.BEST_FILE if best else run_folder.RESUME_FILE
    content = load(fit.path(name))
    with _holding(fit.trainer.module, content['model_state_dict']):
        if best:
            rows = _draw_parity(fit, paths)
        if fit.drift is not None and start is not None:
            paths += _report_drift(fit, start, content['config'])
    log.writeline(f'Pictures: {", ".join(os.path.basename(p) for p in paths)}')
    return rows


def closing(fit: Fit, rows: Sequence[FidelityErrors]) -> str:
    """Return the results of a run in words, and what to do next.

    Args:
        rows: what `draw` returned.
    """
    best, state = os.path.relpath(fit.path(run_folder.BEST_FILE)), fit.state
    whole = f'{fit.best_metric} of {fit.target} in {fit.validation}'
    why = f'Epoch {state.epoch - 1}: {fit.ended}\n' if fit.ended else ''
    if not rows:
        return (
            f'{why}There is no best checkpoint: no epoch qualified by {whole}. '
            f'{os.path.relpath(fit.path(run_folder.RESUME_FILE))} is the last one.'
        )
    lines = [
        f'{why}{best}: epoch {state.best_epoch} of {state.epoch - 1}, by {whole}'
    ]
    lines += [f'{row.fidelity}: {_in_words(row)}' for row in rows]
    names = fit.settled.names
    option = f' -f {fit.target}' if len(names) > 1 else ''
    return '\n'.join([*lines, f'sevennet-mf deploy {shlex.quote(best)}{option}'])


def _in_words(row: FidelityErrors) -> str:
    known = [q for q in QUANTITIES if row.labelled[q[0]]]
    cells = [f'{q} {_digits(row.mae[q])} {unit}' for q, _, unit, _ in known]
    n = row.structures
    return f'{", ".join(cells)} (MAE, {n} structure{"" if n == 1 else "s"})'


def _digits(value: float) -> str:
    return f'{value:.3g}' if value < 1000 else f'{value:.0f}'


@contextmanager
def _holding(
    model: torch.nn.Module, weights: dict[str, torch.Tensor]
) -> Iterator[None]:
    """Give a model other weights within the context."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)


def _draw_parity(fit: Fit, paths: list[str]) -> list[FidelityErrors]:
    """Draw parity of the trained model as it is now; append pictures to `paths`.

    Returns the errors that they show, the target's first.
    """
    names = list(fit.settled.names)
    rows = []
    for fidelity, (name, dataset) in _shown(fit).items():
        found = _predict(fit, dataset)
        paths += parity(found, names, fit.path(''), fidelity, name)
        rows += errors(found, [fidelity])
    return sorted(rows, key=lambda row: row.fidelity != fit.target)


def _predict(fit: Fit, dataset: FidelityDataset) -> Predictions:
    module, device = fit.trainer.module, str(fit.trainer.device)
    return predict(module, dataset, device=device)


def _report_drift(fit: Fit, start: Start, config: dict[str, Any]) -> list[str]:
    """Print, write and draw the drift of the old fidelities; return pictures.

    config: of the checkpoint whose weights the model has.
    """
    report = config[keys.PROVENANCE]['drift']
    dataset = fit.sets[DRIFT].dataset
    moved: dict[str, dict[str, float]] = {}
    for name in report:
        own = dataset.subset(dataset.rows_of(name))
        before = start.predict(own, start.old_name(name))
        moved[name] = drift_report.moved(before, _predict(fit, own))
    table = drift_report.rows(report, moved)
    write_csv(fit.path('drift.csv'), table)
    for line in drift_report.lines(table):
        fit.log.writeline(line)
    if fit.process.rank == 0:
        from rich.console import Console

        Console(stderr=True).print(drift_report.render(table))
    picture = fit.path('drift.png')
    return [picture] if drift_report.draw(report, picture) else []


def _shown(fit: Fit) -> dict[str, tuple[str, FidelityDataset]]:
    """For each fidelity, the set that its parity plot shows, and the structures."""
    chosen: dict[str, tuple[str, FidelityDataset]] = {}
    for name in sorted(fit.sets, key=is_validation, reverse=True):
        data = fit.sets[name]
        for fidelity in data.fidelities:
            rows = data.dataset.rows_of(fidelity)
            chosen.setdefault(fidelity, (name, data.dataset.subset(rows)))
    return chosen
