"""What a run needs to continue where it stopped, and what must not change."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch

from sevennet_mf import keys
from sevennet_mf.arrays import Floats
from sevennet_mf.config.validation import REMOVED
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.model.shift import by_atomic_number

# what may change between a run and its resumption; everything else may not
MAY_CHANGE = (
    KEY.EPOCH,
    KEY.PER_EPOCH,
    KEY.DEVICE,
    KEY.NUM_WORKERS,
    KEY.PREPROCESS_NUM_CORES,
    keys.OLD_FIDELITIES,  # follows from `continue`
    keys.DEFAULT_ORDER,  # the order itself may not
    keys.DEFAULTS,  # the keys themselves may not
    KEY.RANK,
    KEY.LOCAL_RANK,
    KEY.IS_DDP,
    KEY.DDP_BACKEND,
    KEY.SHIFT,  # these three follow from the data
    KEY.SCALE,
    KEY.CONV_DENOMINATOR,
    'version',
    'when',
    keys.PROVENANCE,
)
BLOCKS = {
    keys.FIDELITY_MODEL: 'model.fidelity',
    keys.FIDELITY_TRAIN: 'train.fidelity',
    keys.FIDELITY_DATA: 'data.fidelity',
}
# notes, what is on disk, how often to write: without effect on the numbers
FREE = (
    'data.fidelity.about',
    'data.fidelity.cache',
    'train.fidelity.checkpoint_every',
    'train.fidelity.early_stopping',  # as `epoch`: when the run ends
    'train.fidelity.report_to',
)
READABLE = 60  # characters of a value worth showing in a message
# eV/atom: reference energies that are fitted to a checkpoint's predictions differ by
# less between devices, on the structures they were fitted to
SAME: Final[float] = 1e-3


@dataclass
class State:
    """The state of a run, except weights, optimiser and scheduler."""

    epoch: int = 1  # the one to do next, or that is under way
    step: int = 0  # optimiser steps done in it
    best: float = math.inf
    best_epoch: int | None = None
    curve: str = ''
    # growth over limit of the epoch that drifted least, and its number
    least_drift: tuple[float, int] = (math.inf, 0)
    # sums and counts of the training metrics over all processes
    recorder: list[tuple[float, int]] = field(default_factory=list)
    waited: int = 0  # epochs since the best one
    gradient: list[float] = field(default_factory=list)  # as GradientNorms.state
    wandb: str = ''  # the run's id at Weights & Biases


def must_stay(config: dict[str, Any], process: Process) -> dict[str, Any]:
    """Return the part of a configuration on which a resumed run depends.

    Its keys are names that a user knows. What matters about data is their content,
    in its order, not where the files are.
    """
    kept: dict[str, Any] = {KEY.WORLD_SIZE: process.world_size}
    for name, value in config.items():
        if name in BLOCKS:
            plain = _without_paths(value or {})
            block = {f'{BLOCKS[name]}.{k}': v for k, v in plain.items()}
            kept.update({k: v for k, v in block.items() if k not in FREE})
        elif keys.is_load_path(name):
            kept[f'data.{name}'] = [
                {k: v for k, v in entry.items() if k != 'file'}
                for entry in value or ()
            ]
        elif name == KEY.CONTINUE:
            for key in (keys.FISHER, keys.OPT_PARAMS, keys.EWC_LAMBDA):
                kept[f'train.continue.{key}'] = value.get(key)
        elif name not in MAY_CHANGE:
            kept[name] = value
    inferred = config[keys.PROVENANCE].get('inferred_labels')
    if inferred:
        kept['the inferred labels'] = inferred['digest']
    for file, digest in config[keys.PROVENANCE]['files'].items():
        name = file.partition(': ')[0]
        kept.setdefault(f'the content of {name}', []).append(digest)
    return kept


def _without_paths(block: dict[str, Any]) -> dict[str, Any]:
    """A block of the YAML without the names of the files of a replay."""
    replay = block.get('replay')
    if not replay:
        return block
    kept = dict(replay)
    for inner, path in (('entry', 'file'), ('self_label', 'structures')):
        if kept.get(inner):
            kept[inner] = {k: v for k, v in kept[inner].items() if k != path}
    return {**block, 'replay': kept}


def refuse_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to resume a run if its input has changed.

    A key that no longer exists is not a change; a warning says so if it was on.

    Args:
        before: what `must_stay` returned for the run.
        now: what it returns for the resumed run.

    Raises:
        UserError: The input has changed; the message names the first difference.
    """
    before = _without_removed(before)
    changed = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    if not changed:
        return
    name = changed[0]
    values = [repr(some.get(name)) for some in (before, now)]
    what = f'was {values[0]} and is now {values[1]}'
    if max(map(len, values)) > READABLE:
        what = 'has changed'
    raise UserError(
        f'--resume: {name} {what}. Undo the change, or start anew without '
        '--resume (`continue: checkpoint:` keeps the weights).'
    )


def _without_removed(before: dict[str, Any]) -> dict[str, Any]:
    """What a run depended on, without keys of earlier versions."""
    gone = {f'{block}.{key}': why for (block, key), why in REMOVED.items()}
    for name in before.keys() & gone.keys():
        if before[name]:
            warnings.warn(
                f'--resume: {name} was {before[name]!r} in this run, but the key '
                f'was removed: {gone[name]}. The run continues without it.',
                UserWarning,
                stacklevel=2,
            )
    return {name: value for name, value in before.items() if name not in gone}


def moved_references(
    saved: torch.Tensor,
    now: torch.Tensor,
    type_map: Mapping[int, int],
    datasets: Sequence[FidelityDataset],
) -> Floats:
    """Return the reference energies of a run so far, for its data.

    Args:
        saved: those of the run, as in the model, eV.
        now: those found again, as in the model, eV.
        type_map: the model's.
        datasets: the run's.

    Returns:
        (n_fidelities, 119) eV.

    Raises:
        UserError: They differ by more than rounding.
    """
    off = math.inf
    if saved.shape == now.shape:
        n = len(datasets[0].fidelities)
        moved = np.nan_to_num(by_atomic_number(saved - now, type_map, n))
        per_atom = [np.abs(d.sums_of(moved) / d.n_atoms) for d in datasets]
        off = max(float(values.max()) for values in per_atom)
    if off > SAME:
        raise UserError(
            '--resume: the reference energies have changed, because `continue` or '
            'the fit is different. Undo the change, or start anew without '
            '--resume.'
        )
    return np.nan_to_num(by_atomic_number(saved, type_map, n))


def random_state() -> dict[str, Any]:
    """Return the state of every random number generator."""
    return {
        'python': random.getstate(),
        'numpy': np.random.get_state(),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.device_count() == len(state['cuda']):
        torch.cuda.set_rng_state_all(state['cuda'])
