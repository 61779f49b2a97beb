"""The result of a run: errors on the test set, and how they were obtained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevennet_mf import keys
from sevennet_mf.checkpoint.file import load
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate import evaluation as evaluate
from sevennet_mf.evaluate.evaluation import Evaluation
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.files import read_json, write_json, write_whole
from sevennet_mf.model.load import LoadedModel, load_model
from sevennet_mf.study.running import differences
from sevennet_mf.study.runs import LOW, TRAINING, Run, checkpoint_name
from sevennet_mf.study.status import RESULT_FILE

TEST_FOLDER: Final[str] = 'test'
PREDICTIONS: Final[str] = 'predictions.npz'
# keys of run.json that are in result.json as well
TOLD: Final[tuple[str, ...]] = (
    'name',
    'row',
    'method',
    'labels',
    'seed',
    'steps',
    'low_labels',
    'test_structures',
    'test_low_labelled',
)


def checkpoint_of(run: Run) -> Path:
    """Return the checkpoint of a run that is evaluated.

    Raises:
        UserError: If it does not exist.
    """
    stage = run.stages[-1]
    which = run.content['checkpoint']
    path = run.folder / TRAINING / checkpoint_name(which, stage['epochs'])
    if not path.is_file():
        raise UserError(
            f'{path} does not exist: training wrote no {which} checkpoint. See its '
            'log.'
        )
    return path


def write_result(
    run: Run, device: str, seconds: float, more: dict[str, Any]
) -> dict[str, Any]:
    """Measure a trained run on the test set and write result.json.

    The low model on its own is not measured: it has no reference energies of the
    target.

    Args:
        device: As for `evaluate.predict`.
        seconds: Duration of the run's own stages.
        more: Further content of result.json.

    Returns:
        The content of result.json.

    Raises:
        UserError: If there is nothing to measure.
    """
    path = checkpoint_of(run)
    models = [load_model(str(path))]
    if run.method == 'delta':
        models.append(load_model(str(checkpoint_of(run.needed()))))
    if run.needs:
        before = read_json(run.needed().folder / RESULT_FILE)
        seconds += float(before.get('seconds') or 0.0)
    found = None if run.method == LOW else _evaluate(run, path, models, device)
    errors = write_test(run, found) if found else {}
    _check_finite(errors)
    saved = load(str(path))
    result = {name: run.content[name] for name in TOLD}
    result.update(
        **inferred_labels(saved, run),
        parameters=sum(map(count_parameters, models)),
        best_epoch=int(saved.get('epoch') or 0),
        seconds=round(seconds, 1),
        errors=errors,
        folder=str(run.folder),
        **more,
    )
    write_json(run.folder / RESULT_FILE, result)
    return result


def _evaluate(
    run: Run, path: Path, models: Sequence[LoadedModel], device: str
) -> Evaluation:
    """models: the one at `path`, and for `delta` the low one, which is added."""
    if run.method == 'delta':
        difference, low = models
        return _evaluate_sum(run, low, difference, device)
    test, folder = run.content['test'], str(run.folder / TEST_FOLDER)
    return evaluate.evaluate(str(path), test, folder, device=device, progress=False)


def _check_finite(errors: Mapping[str, Mapping[str, float]]) -> None:
    for quantity, metrics in errors.items():
        for metric in ('mae', 'rmse'):
            if not math.isfinite(metrics[metric]):
                raise UserError(
                    f'the {quantity} {metric.upper()} on the test set is not a '
                    'finite number: training diverged. Lower the learning rate.'
                )


def inferred_labels(saved: Mapping[str, Any], run: Run) -> dict[str, int]:
    """Return how many labels of the target were inferred for training.

    Args:
        saved: Content of the checkpoint.

    Returns:
        `inferred`, the number of these labels, and `inferred_test`, how many test
        structures may have one: those with a label of another fidelity in training.
    """
    # SevenNet's own training records nothing
    noted = saved['config'].get(keys.PROVENANCE) or {}
    count = int((noted.get('inferred_labels') or {}).get('inferred') or 0)
    tested = int(run.content['test_low_labelled']) if count else 0
    return {'inferred': count, 'inferred_test': tested}


def count_parameters(loaded: LoadedModel) -> int:
    """Return the number of trainable parameters of a model."""
    return sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)


def _evaluate_sum(
    run: Run, low: LoadedModel, difference: LoadedModel, device: str
) -> Evaluation:
    """The low model and the model of the difference, added."""
    target = run.content['target']
    (entry,) = run.content['test']
    parts = [
        differences.predicted(model, entry, run.content['low'], run.out, device)
        for model in (low, difference)
    ]
    both = differences.total(parts[0], parts[1], target)
    return evaluate.write(both, str(run.folder / TEST_FOLDER))


def write_test(run: Run, found: Evaluation) -> dict[str, dict[str, float]]:
    """Write the data of parity plots, and return the errors.

    Returns:
        By quantity, `mae` and `rmse` in meV/atom, meV/Å and kbar, and `n`, the
        number of structures with the label. Quantities without labels are absent.
    """
    arrays = parity(found.predictions)
    path = run.folder / TEST_FOLDER / PREDICTIONS
    write_whole(path, partial(_savez, arrays))
    (row,) = found.rows
    return {
        name: {'mae': row.mae[name], 'rmse': row.rmse[name], 'n': count}
        for name, count in row.labelled.items()
        if count
    }


def parity(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return the content of predictions.npz.

    Returns:
        `energy_label` and `energy_predicted`, (n,) in eV/atom, minus the reference
        energies; `force_label` and `force_predicted`, (m,) components in eV/Å; and
        `n_atoms`, (n,).
    """
    rows = np.arange(len(predictions))
    arrays: dict[str, np.ndarray] = {'n_atoms': predictions.n_atoms}
    for name in ('energy', 'force'):
        label, predicted = predictions.compared(name, rows)
        arrays.update({f'{name}_label': label, f'{name}_predicted': predicted})
    return arrays


def _savez(arrays: dict[str, np.ndarray], stream: Any) -> None:
    np.savez(stream, **arrays)  # type: ignore[arg-type]
