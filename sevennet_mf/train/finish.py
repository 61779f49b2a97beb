"""The pictures at the end of a run: learning curves, parity of the best model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sevenn.logger import Logger

from sevennet_mf.train import checkpoint, plots
from sevennet_mf.train.predict import load_model, predict
from sevennet_mf.train.setup import is_validation

if TYPE_CHECKING:
    from sevennet_mf.data.dataset import FidelityDataset
    from sevennet_mf.train.fit import Fit


def draw(fit: Fit) -> list[str]:
    """Write learning_curves.png and parity_<fidelity>.png; return their paths.

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
    log.writeline(f'Pictures: {", ".join(os.path.basename(p) for p in paths)}')
    return paths


def _shown(fit: Fit) -> dict[str, tuple[str, FidelityDataset]]:
    """For each fidelity the set its parity plot shows, and the structures."""
    chosen: dict[str, tuple[str, FidelityDataset]] = {}
    for name in sorted(fit.sets, key=is_validation, reverse=True):
        data = fit.sets[name]
        for fidelity in data.fidelities:
            rows = data.dataset.rows_of(fidelity)
            chosen.setdefault(fidelity, (name, data.dataset.subset(rows)))
    return chosen
