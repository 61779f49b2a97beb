"""The pictures at the end of a run: learning curves, parity of the best model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console
from sevenn.logger import Logger

from sevennet_mf.train import checkpoint, drift, drift_picture, plots
from sevennet_mf.train.predict import load_model, predict
from sevennet_mf.train.setup import DRIFT, is_validation
from sevennet_mf.train.tables import write_csv

if TYPE_CHECKING:
    from sevennet_mf.data.dataset import FidelityDataset
    from sevennet_mf.train.fit import Fit
    from sevennet_mf.train.start import Start


def draw(fit: Fit, start: Start | None = None) -> list[str]:
    """Write learning_curves.png and parity_<fidelity>.png; return their paths.

    A run that watches old fidelities of the checkpoint it starts from has
    drift.csv and drift.png as well, of the best checkpoint or, without
    one, the last.

    Parity is that of the best checkpoint on the validation sets; a fidelity that
    no validation set holds is shown on what it was trained on.
    """
    log = Logger()
    picture = fit.path('learning_curves.png')
    drawn = plots.learning_curves(fit.path(fit.state.curve), picture)
    paths = [picture] if drawn else []
    best = fit.path(checkpoint.BEST_FILE)
    if os.path.isfile(best):
        loaded = load_model(best)
        for fidelity, (name, dataset) in _shown(fit).items():
            predictions = predict(
                loaded.model, dataset, device=str(fit.trainer.device)
            )
            paths += plots.parity(
                predictions, loaded.fidelities, fit.path(''), fidelity, name
            )
    if fit.drift is not None and start is not None:
        paths += _report_drift(fit, start)
    log.writeline(f'Pictures: {", ".join(os.path.basename(p) for p in paths)}')
    return paths


def _report_drift(fit: Fit, start: Start) -> list[str]:
    """Print, write and draw how far the old fidelities went; return pictures."""
    path = fit.path(checkpoint.BEST_FILE)
    if fit.state.best_epoch is None:
        path = fit.path(checkpoint.RESUME_FILE)
    loaded = load_model(path)
    report = loaded.provenance['drift']
    dataset = fit.sets[DRIFT].dataset
    moved: dict[str, dict[str, float]] = {}
    for name in report:
        own = dataset.subset(dataset.rows_of(name))
        before = start.predict(fit.config, own, start.old_name(name))
        after = predict(loaded.model, own, device=str(fit.trainer.device))
        moved[name] = drift.moved(before, after)
    table = drift.rows(report, moved)
    write_csv(fit.path('drift.csv'), table)
    for line in drift.lines(table):
        fit.log.writeline(line)
    if fit.process.rank == 0:
        Console(stderr=True).print(drift.render(table))
    picture = fit.path('drift.png')
    return [picture] if drift_picture.draw(report, picture) else []


def _shown(fit: Fit) -> dict[str, tuple[str, FidelityDataset]]:
    """For each fidelity the set its parity plot shows, and the structures."""
    chosen: dict[str, tuple[str, FidelityDataset]] = {}
    for name in sorted(fit.sets, key=is_validation, reverse=True):
        data = fit.sets[name]
        for fidelity in data.fidelities:
            rows = data.dataset.rows_of(fidelity)
            chosen.setdefault(fidelity, (name, data.dataset.subset(rows)))
    return chosen
