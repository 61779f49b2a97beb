"""What a run trains on and with: data sets, model, losses, batches and metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sevenn._keys as KEY
from sevenn.logger import Logger

from sevennet_mf import keys
from sevennet_mf.config.recipe import LEAST_STEPS
from sevennet_mf.data import checks
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.data.inferred.infer import provenance
from sevennet_mf.data.needs import Needs
from sevennet_mf.data.sampler import FidelityBatchSampler, eval_loader, make_loader
from sevennet_mf.distributed import Process
from sevennet_mf.model.build import train_only
from sevennet_mf.train import setup
from sevennet_mf.train.continuing.drift import Drift
from sevennet_mf.train.continuing.replay import Replay, is_wanted, only_trained
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop.fit import DataSet, Fit
from sevennet_mf.train.loop.loss import LABELS, losses_from
from sevennet_mf.train.loop.provenance import describe, fidelity_names
from sevennet_mf.train.loop.trainer import FidelityTrainer

Config = dict[str, Any]
Sets = dict[str, FidelityDataset]


def prepare_data(
    config: Config, working_dir: str, process: Process, start: Start | None
) -> Sets:
    """Read or load every data set, subtract references, complete `config`."""
    sets = _divided(config, working_dir, process, start)
    sets, inferred = setup.infer(config, sets, process)
    if start is not None:
        if config[keys.FIDELITY_TRAIN]['update'] == 'fidelity_only':
            sets = only_trained(sets, start)
        shift, report = start.settle(config, sets, process)
    else:
        references = setup.fit(config, sets)
        setup.check_determined(config, sets, references)
        shift, report = references.energies, references.as_dict()
    for dataset in sets.values():
        dataset.set_reference(shift)
    if start is None:
        setup.set_statistics(config, sets[setup.TRAIN], shift)
    config[keys.PROVENANCE] = describe(config, sets, report)
    if inferred:
        config[keys.PROVENANCE]['inferred_labels'] = provenance(inferred)
    return sets


def _divided(
    config: Config, working_dir: str, process: Process, start: Start | None
) -> Sets:
    """The sets as read, on the checkpoint's energies, with a drift set held out."""
    replay = None
    if start is not None and is_wanted(config, start):
        replay = Replay(config, start, working_dir, process)
        config.update(replay.config)
    sets = build_datasets(config, working_dir, process.rank, process.barrier)
    needs = Needs.of(config)
    setup.heed(checks.as_read(needs, sets))
    setup.choose_species(config, sets)
    if start is not None:
        made = {} if replay is None else replay.self_labelled(sets)
        start.align(config, sets, process, made)
    sets = setup.split_training_set(sets, needs.ratio, config[KEY.RANDOM_SEED])
    return sets if replay is None else replay.divide(sets)


def prepare_fit(
    config: Config,
    model: Any,
    sets: Sets,
    working_dir: str,
    process: Process,
    start: Start | None = None,
    drift: Drift | None = None,
) -> Fit:
    """Put model, losses, batches and metrics together."""
    names = fidelity_names(config)
    if start and config[keys.FIDELITY_TRAIN]['update'] == 'fidelity_only':
        train_only(model, [names.index(name) for name in start.trained])
    train_set = sets[setup.TRAIN]
    trained = names if start is None else list(start.trained)
    sampler = _sampler(config, train_set, names, trained, process)
    losses = losses_from(
        config, names, sampler.draw_probability, _labelled(train_set, len(names))
    )
    trainer = FidelityTrainer(model, losses, config, process)
    loaded = _loaded(config, sets, names, sampler, process)
    chosen = _validation_set(config, loaded)
    return Fit(trainer, config, loaded, chosen, working_dir, process, names, drift)


def _sampler(
    config: Config,
    train_set: FidelityDataset,
    names: list[str],
    trained: list[str],
    process: Process,
) -> FidelityBatchSampler:
    sampling = config[keys.FIDELITY_TRAIN]['sampling']
    if isinstance(sampling, dict):
        here = fidelities_of(train_set, names)  # fidelity_only leaves old ones out
        sampling = {names.index(n): sampling[n] for n in here}
    return FidelityBatchSampler(
        train_set.fidelity_index,
        len(names),
        config[KEY.BATCH_SIZE],
        sampling,
        config[KEY.RANDOM_SEED],
        config[KEY.TRAIN_SHUFFLE],
        process.rank,
        process.world_size,
        _steps_per_epoch(config, train_set, trained, process),
    )


def _loaded(
    config: Config,
    sets: Sets,
    names: list[str],
    sampler: FidelityBatchSampler,
    process: Process,
) -> dict[str, DataSet]:
    """The sets with what draws their batches."""
    train_set, size = sets[setup.TRAIN], config[KEY.BATCH_SIZE]
    on_gpu = process.device(config[KEY.DEVICE]).type == 'cuda'
    workers = int(config.get(KEY.NUM_WORKERS) or 0)
    loaded = {
        setup.TRAIN: DataSet(
            train_set,
            make_loader(train_set, sampler, workers, on_gpu),
            fidelities_of(train_set, names),
            probe=eval_loader(_a_few(train_set), size),
        )
    }
    for name, dataset in sets.items():
        if name != setup.TRAIN:
            loader = eval_loader(dataset, size, process.rank, process.world_size)
            loaded[name] = DataSet(dataset, loader, fidelities_of(dataset, names))
    return loaded


def _steps_per_epoch(
    config: Config, train_set: FidelityDataset, trained: list[str], process: Process
) -> int | None:
    """As asked for; else inferred labels do not make an epoch any longer.

    Where the YAML does not say how long the run is, the least steps of the recipe,
    or a pass over the structures of `trained`, the fidelities that it is for.
    """
    options = config[keys.FIDELITY_TRAIN]
    asked: int | None = options['steps_per_epoch']
    least: int | None = options.get(LEAST_STEPS)
    computed = ~train_set.inferred
    if asked or (least is None and computed.all()):
        return asked
    if least is not None:
        own = np.concatenate([train_set.rows_of(name) for name in trained])
        computed = computed[own]
    in_one = config[KEY.BATCH_SIZE] * process.world_size
    return max(least or 1, math.ceil(int(computed.sum()) / in_one))


def fidelities_of(dataset: FidelityDataset, names: list[str]) -> list[str]:
    """Names of the fidelities that a set has structures of."""
    return [names[i] for i in np.unique(dataset.fidelity_index)]


def _a_few(dataset: FidelityDataset, n: int = 32) -> FidelityDataset:
    """The first n structures of each fidelity: what theta_T's size is probed on."""
    rows = [dataset.rows_of(name)[:n] for name in dataset.fidelities]
    return dataset.subset(np.concatenate(rows))


def _labelled(train_set: FidelityDataset, n: int) -> dict[str, np.ndarray]:
    """rho_fk: the share of each fidelity's structures that carry each label."""
    index = train_set.fidelity_index
    count = np.maximum(np.bincount(index, minlength=n), 1)
    return {
        label: np.bincount(index[train_set.has[label]], minlength=n) / count
        for label, *_ in LABELS
    }


def _validation_set(config: Config, sets: dict[str, DataSet]) -> str:
    """The set whose target metric picks the best checkpoint."""
    target = config[keys.FIDELITY_TRAIN]['target']
    held = {name: data.fidelities for name, data in sets.items()}
    candidates = checks.choosing(target, held)
    if not candidates:
        Logger().writeline(f'WARNING: {checks.no_validation(target).message}')
    return candidates[0] if candidates else setup.TRAIN
