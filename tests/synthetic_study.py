"""The folder of a study whose errors follow power laws: nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

LABELS = (4, 8, 16, 29)
SEEDS = (1, 2, 3)
# error of `row` with one label (meV/atom, meV/Å), and how fast it falls
POWER_LAWS: dict[str, tuple[float, float, float]] = {
    'high_only': (260.0, 700.0, 0.60),
    'transfer': (150.0, 420.0, 0.52),
    'delta': (120.0, 380.0, 0.50),
    'multi_fidelity': (85.0, 300.0, 0.48),
    'host_modality': (110.0, 330.0, 0.42),
}
STUDY: dict[str, Any] = {
    'input_yaml': 'multi_fidelity.yaml',
    'target': 'r2scan',
    'low': 'pbe',
    'order': ['pbe', 'r2scan'],
    'rows': {row: {'method': row, 'set': {}} for row in POWER_LAWS},
    'labels': list(LABELS),
    'seeds': list(SEEDS),
    'steps': 3000,
    'low_share': 0.5,
    'checkpoint': 'best',
    'test': {
        'from': {'by': 'composition', 'train': ['GaN', 'InN']},
        'structures': 18,
        'low_labelled': 6,
    },
    'training': {'pool': 29, 'pool_low_labelled': 29, 'others': {'pbe': 164}},
    'validation': {'r2scan': 13, 'pbe': 36},
    'elements': ['Ga', 'In', 'N'],
    'batch_size': 4,
    'command': 'sevennet-mf study full_study.yaml -o study',
    'versions': {'sevennet_mf': '0.1.0', 'sevenn': '0.13.0'},
}


def dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def errors(row: str, labels: int, rng: np.random.Generator, noise: float) -> Any:
    energy, force, power = POWER_LAWS.get(row, POWER_LAWS['delta'])
    found: dict[str, Any] = {}
    if not labels:  # the low model: its energies are not the target's
        return found
    for name, one, n in (('energy', energy, 18), ('force', force, 18)):
        mae = one * labels**-power * np.exp(noise * rng.normal())
        found[name] = {'mae': mae, 'rmse': 1.35 * mae, 'n': n}
    return found


def run(
    out: Path,
    row: str,
    labels: int,
    seed: int,
    noise: float = 0.1,
    predictions: bool = False,
    **result: Any,
) -> Path:
    """Write a run that is done; `result` changes its result.json."""
    rng = np.random.default_rng([labels, seed, len(row)])
    folder = out / 'runs' / row / f'n{labels}_seed{seed}'
    alone = row == 'high_only'
    described = {
        'name': f'{row}/n{labels}_seed{seed}',
        'row': row,
        'method': row if row in (*POWER_LAWS, 'low') else 'multi_fidelity',
        'labels': labels,
        'seed': seed,
        'steps': [1500, 1500] if row in ('transfer', 'delta') else [3000],
        'needs': [f'low/seed{seed}'] if row in ('transfer', 'delta') else [],
        'stages': [],
    }
    dump(folder / 'run.json', described)
    content = {
        **described,
        'parameters': 41208 * (2 if row == 'delta' else 1),
        'low_labels': 0 if alone else 164,
        'test_structures': 18,
        'test_low_labelled': 0 if alone else 6,
        'best_epoch': 48,
        'seconds': 612.25,
        'errors': errors(row, labels, rng, noise),
        'folder': str(folder),
        **result,
    }
    dump(folder / 'result.json', content)
    if predictions:
        _predictions(folder, content['errors'], rng)
    return folder


def _predictions(folder: Path, error: Any, rng: np.random.Generator) -> None:
    n_atoms = rng.choice([4, 8], 18)
    energy = rng.normal(size=18) * 0.12
    force = rng.normal(size=3 * n_atoms.sum()) * 1.1
    (folder / 'test').mkdir(exist_ok=True)

    def noise(values: Any, quantity: str) -> Any:
        # the mean of |normal| is 0.8
        size = error[quantity]['mae'] / 1000 / 0.8
        return values + rng.normal(size=len(values)) * size

    np.savez(
        folder / 'test' / 'predictions.npz',
        energy_label=energy,
        energy_predicted=noise(energy, 'energy'),
        force_label=force,
        force_predicted=noise(force, 'force'),
        n_atoms=n_atoms,
    )


def failed(out: Path, row: str, labels: int, seed: int, message: str) -> Path:
    """Make a run one that failed."""
    folder = run(out, row, labels, seed)
    (folder / 'result.json').unlink()
    dump(folder / 'failed.json', {'message': message, 'stage': 'train'})
    return folder


def study(out: Path, noise: float = 0.1, **changes: Any) -> Path:
    """Write a whole study: 5 methods, 4 numbers of labels, 3 seeds, one failed."""
    dump(out / 'study.json', {**STUDY, **changes})
    for row in POWER_LAWS:
        for labels in LABELS:
            for seed in SEEDS:
                last = labels == LABELS[-1]
                run(out, row, labels, seed, noise, predictions=last)
    message = 'train.batch_size 4 needs more memory than there is: choose a smaller'
    failed(out, 'transfer', 8, 2, message)
    return out
