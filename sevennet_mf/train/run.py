"""A multi-fidelity training run, from its configuration to its last picture."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np
import sevenn._keys as KEY
from sevenn.logger import Logger
from sevenn.model_build import build_E3_equivariant_model

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.checkpoint_file import check_version
from sevennet_mf.data.dataset import FidelityDataset, build_datasets, check_coverage
from sevennet_mf.data.sampler import FidelityBatchSampler, eval_loader, make_loader
from sevennet_mf.errors import UserError
from sevennet_mf.model import accelerators
from sevennet_mf.model.build import train_only
from sevennet_mf.train import checkpoint, ewc, setup
from sevennet_mf.train.distributed import Process
from sevennet_mf.train.drift import Drift, of_checkpoint, with_metrics
from sevennet_mf.train.extension import make_start
from sevennet_mf.train.fit import DataSet, Fit
from sevennet_mf.train.loss import LABELS, losses_from
from sevennet_mf.train.paired_loss import check_batches, paired_losses
from sevennet_mf.train.provenance import describe, fidelity_names
from sevennet_mf.train.replay import Replay, is_wanted, only_trained
from sevennet_mf.train.setup import DRIFT
from sevennet_mf.train.start import Start
from sevennet_mf.train.trainer import FidelityTrainer

Config = dict[str, Any]


def train(
    config: Config,
    working_dir: str,
    process: Process | None = None,
    resume: bool = False,
) -> None:
    """Train as a configuration says, which is changed on the way.

    config: the host's merged dictionary, as inputs.from_sections gives it.
    Raises UserError before anything is written for input that cannot work, and
    TrainingStopped, with a resumable checkpoint on disk, for a run cut short.
    """
    sevennet_mf.register()
    process = process or Process()
    log = Logger()
    log.timer_start('total')
    check_folder(working_dir)
    accelerators.check(config=config)  # SevenNet would train without it
    process.device(config[KEY.DEVICE])  # fails before anything is read
    saved = None
    if resume:
        path = os.path.join(working_dir, checkpoint.RESUME_FILE)
        saved = checkpoint.load_training_state(path)
        check_version(path, saved['config'])
    start = make_start(config)
    sets = prepare_data(config, working_dir, process, start)
    drift = None
    if start is not None and DRIFT in sets:
        with_metrics(config)
        drift = process.share(lambda: of_checkpoint(config, start, sets[DRIFT]))
    _log_sets(log, config, sets)
    log.write('\nModel building...\n')
    model = build_E3_equivariant_model(config)
    log.print_model_info(model, config)
    fit = prepare_fit(config, model, sets, working_dir, process, start, drift)
    if start is not None and ewc.asked(config):
        fit.trainer.loss_functions.append(ewc.term(config, start, fit.trainer))
    if saved is not None:
        fit.resume(saved)
    elif start is not None:
        fit.state.epoch = start.load_into(fit.trainer, config[KEY.EPOCH]) + 1
    if saved is None and process.rank == 0:
        moved = checkpoint.set_aside(working_dir)
        if moved:
            message = f'checkpoints of an earlier run are now in {moved}'
            log.writeline(message)
            warnings.warn(message, UserWarning, stacklevel=2)
    fit.run()
    if process.rank == 0:
        from sevennet_mf.train import finish  # matplotlib, for this process only

        finish.draw(fit, start)
    log.timer_end('total', message='Total wall time')


def check_folder(working_dir: str) -> None:
    """Make the output folder; UserError if nothing can be written there."""
    try:
        os.makedirs(working_dir, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{working_dir} cannot be made: {error.strerror}. Choose another '
            'folder with -w.'
        ) from None
    if not os.access(working_dir, os.W_OK | os.X_OK):
        raise UserError(
            f'{working_dir} cannot be written. Choose another folder with -w.'
        )


def prepare_data(
    config: Config, working_dir: str, process: Process, start: Start | None
) -> dict[str, FidelityDataset]:
    """Read or load every data set, subtract references, complete `config`."""
    data, train_block = config[keys.FIDELITY_DATA], config[keys.FIDELITY_TRAIN]
    replay = None
    if start is not None and is_wanted(config, start):
        replay = Replay(config, start, working_dir, process)
        config.update(replay.config)
    sets = build_datasets(config, working_dir, process.rank, process.barrier)
    lacking = check_coverage(
        sets[setup.TRAIN],
        data['order'],
        train_block['target'],
        train_block['loss_weight'],
        train_block['sampling'],
    )
    if lacking and start is None:
        raise UserError(
            f'data.load_trainset_path has no structure of {lacking}, which '
            'data.fidelity.order lists. Add their data, or take them out of the '
            'order.'
        )
    setup.choose_species(config, sets)
    sets = setup.split_training_set(
        sets, float(config.get(KEY.RATIO) or 0.0), config[KEY.RANDOM_SEED]
    )
    if start is not None:
        start.align(config, sets, process)
    if replay is not None:
        sets = replay.divide(sets)
    sets, inferred = setup.infer(config, sets, process)
    if start is not None and train_block['update'] == 'fidelity_only':
        sets = only_trained(sets, start)
    if start is not None:
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
    if inferred is not None:
        config[keys.PROVENANCE]['inferred_labels'] = inferred.as_dict()
    return sets


def prepare_fit(
    config: Config,
    model: Any,
    sets: dict[str, FidelityDataset],
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
    sampling = config[keys.FIDELITY_TRAIN]['sampling']
    if isinstance(sampling, dict):
        here = fidelities_of(train_set, names)  # fidelity_only leaves old ones out
        sampling = {names.index(n): sampling[n] for n in here}
    weight = config[keys.FIDELITY_TRAIN]['paired_weight']
    if weight:
        check_batches(config)
    sampler = FidelityBatchSampler(
        train_set.fidelity_index,
        len(names),
        config[KEY.BATCH_SIZE],
        sampling,
        config[KEY.RANDOM_SEED],
        config[KEY.TRAIN_SHUFFLE],
        process.rank,
        process.world_size,
        _steps_per_epoch(config, train_set, process),
        train_set.fingerprint if weight else None,
    )
    losses = losses_from(
        config, names, sampler.draw_probability, _labelled(train_set, len(names))
    )
    if weight:
        losses += paired_losses(config, train_set)
    on_gpu = process.device(config[KEY.DEVICE]).type == 'cuda'
    trainer = FidelityTrainer(model, losses, config, process)
    workers = int(config.get(KEY.NUM_WORKERS) or 0)
    loaded = {
        setup.TRAIN: DataSet(
            train_set,
            make_loader(train_set, sampler, workers, on_gpu),
            fidelities_of(train_set, names),
            probe=eval_loader(_a_few(train_set), config[KEY.BATCH_SIZE]),
        )
    }
    for name, dataset in sets.items():
        if name != setup.TRAIN:
            loader = eval_loader(
                dataset, config[KEY.BATCH_SIZE], process.rank, process.world_size
            )
            loaded[name] = DataSet(dataset, loader, fidelities_of(dataset, names))
    chosen = _validation_set(config, loaded)
    return Fit(trainer, config, loaded, chosen, working_dir, process, names, drift)


def _steps_per_epoch(
    config: Config, train_set: FidelityDataset, process: Process
) -> int | None:
    """As asked for; else inferred labels do not make an epoch any longer."""
    asked: int | None = config[keys.FIDELITY_TRAIN]['steps_per_epoch']
    if asked or not train_set.inferred.any():
        return asked
    computed = int((~train_set.inferred).sum())
    return math.ceil(computed / (config[KEY.BATCH_SIZE] * process.world_size))


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
    candidates = [
        name
        for name, data in sets.items()
        if setup.is_validation(name) and target in data.fidelities
    ]
    if not candidates:
        message = (
            f'WARNING: no validation set holds the target {target!r}; the best '
            'checkpoint is the best on the training set. Give load_validset_path.'
        )
        Logger().writeline(message)
        return setup.TRAIN
    return 'validset' if 'validset' in candidates else candidates[0]


def _log_sets(log: Logger, config: Config, sets: dict[str, FidelityDataset]) -> None:
    log.bar()
    for name, by_fidelity in config[keys.PROVENANCE]['data'].items():
        for fidelity, counts in by_fidelity.items():
            log.format_k_v(f'{name} {fidelity}', counts, write=True)
    log.bar()
