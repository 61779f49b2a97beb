"""What a run trains on and with: data sets, model, losses, batches and metrics."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import sevenn
import sevenn._keys as KEY
from sevenn.logger import Logger

from sevennet_mf import keys
from sevennet_mf.arrays import Ints
from sevennet_mf.config.optimizer import schedule_of
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data import checks
from sevennet_mf.data.batches.equal_work import EqualWorkSampler, batches_in_order
from sevennet_mf.data.batches.loader import eval_batches, make_loader
from sevennet_mf.data.batches.sampler import FidelityBatchSampler
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.data.findings import structures
from sevennet_mf.data.inferred.infer import provenance
from sevennet_mf.data.needs import Needs
from sevennet_mf.distributed import Process
from sevennet_mf.model.build import train_only
from sevennet_mf.train import setup
from sevennet_mf.train.continuing.replay import ReplayData, is_wanted, only_trained
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop.drift import Drift, with_metrics
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.loss import LABELS, losses_from
from sevennet_mf.train.loop.loss import line as loss_line
from sevennet_mf.train.loop.provenance import describe
from sevennet_mf.train.loop.saved_run import DataSet
from sevennet_mf.train.loop.settled import Settled
from sevennet_mf.train.loop.trainer import FidelityTrainer, StepOptions

Config = dict[str, Any]
Sets = dict[str, FidelityDataset]


def prepare_data(
    inputs: RunInputs, working_dir: str, process: Process, start: Start | None
) -> Settled:
    """Read or load every data set, subtract references, settle the model.

    Args:
        start: the checkpoint that `continue` names.

    Raises:
        UserError: Data cannot be used.
    """
    names = tuple(inputs.order)
    config = {**header(process), **inputs.merged()}
    if start is not None:
        inputs, names = start.inputs, start.names
        config |= {**inputs.merged(), **start.taken_over()}
    sets, entries, chemistry = _divided(inputs, config, working_dir, process, start)
    config |= {**entries, **chemistry}
    sets, inferred = setup.infer(inputs, sets, process)
    if start is not None:
        if inputs.trains_theta_only:
            sets = only_trained(sets, start)
        shift, report = start.settle(sets, process)
        statistics = start.statistics(shift)
    else:
        references = setup.fit(inputs, config[KEY.TYPE_MAP], sets)
        setup.check_determined(inputs.target, sets, references)
        shift, report = references.energies, references.as_dict()
    for dataset in sets.values():
        dataset.set_reference(shift)
    if start is None:
        statistics = setup.statistics_of(inputs, sets[setup.TRAIN], shift)
    config |= statistics
    if setup.DRIFT in sets:
        config[KEY.ERROR_RECORD] = with_metrics(config[KEY.ERROR_RECORD])
    config[keys.PROVENANCE] = describe(inputs, names, sets, report)
    if inferred:
        config[keys.PROVENANCE]['inferred_labels'] = provenance(inferred)
    return Settled(inputs, names, sets, config)


def header(process: Process) -> Config:
    """Return what SevenNet's own program puts first in a configuration."""
    return {
        'version': sevenn.__version__,
        'when': time.ctime(),
        '_model_type': 'E3_equivariant_model',
        KEY.IS_DDP: process.distributed,
        KEY.DDP_BACKEND: process.backend,
        KEY.LOCAL_RANK: process.local_rank,
        KEY.RANK: process.rank,
        KEY.WORLD_SIZE: process.world_size,
    }


def _divided(
    inputs: RunInputs,
    config: Config,
    working_dir: str,
    process: Process,
    start: Start | None,
) -> tuple[Sets, Config, Config]:
    """The sets as read, on the checkpoint's energies, with a drift set held out.

    Returns their entries as well, those of a replay included, and the elements.
    """
    replay = None
    entries: Config = dict(inputs.entries)
    if start is not None and is_wanted(start):
        replay = ReplayData(start, working_dir, process)
        entries = replay.entries
    sets = build_datasets({**config, **entries}, working_dir, process.share)
    chemistry = setup.species(config, sets)
    own = entries['load_trainset_path']
    needs = Needs.of(inputs, own)
    setup.say_files(sets, needs, inputs.data.reference_energies)
    setup.heed(checks.as_read(needs, sets))
    if start is not None:
        made = {} if replay is None else replay.self_labelled(sets)
        start.align(sets, process, made)
    sets = setup.split_training_set(sets, inputs.ratio, inputs.seed)
    if replay is not None:
        sets = replay.divide(sets)
    return sets, entries, chemistry


def prepare_fit(
    settled: Settled,
    model: Any,
    working_dir: str,
    process: Process,
    start: Start | None = None,
    drift: Drift | None = None,
) -> Fit:
    """Put model, losses, batches and metrics together."""
    inputs, names = settled.inputs, settled.names
    if start is not None and inputs.trains_theta_only:
        train_only(model, [names.index(name) for name in start.trained])
    train_set = settled.sets[setup.TRAIN]
    trained = names if start is None else start.trained
    sampler = _sampler(settled, trained, process)
    losses = losses_from(
        inputs,
        names,
        sampler.draw_probability,
        _labelled(train_set, len(names)),
        sampler.structures_per_batch,
    )
    trainer = FidelityTrainer(
        model,
        losses,
        settled.config,
        process,
        len(names),
        _step_options(inputs, len(sampler)),
    )
    loaded = _loaded(settled, sampler, process)
    chosen = _validation_set(inputs.target, loaded)
    return Fit(trainer, settled, loaded, chosen, working_dir, process, drift)


def _step_options(inputs: RunInputs, steps: int) -> StepOptions:
    """What the YAML says about a step; the log gets what is not obvious there.

    steps: of an epoch.
    """
    train, log = inputs.train, Logger()
    schedule = schedule_of(
        inputs.host, train.schedule_by, inputs.style, inputs.epochs_to_do, steps
    )
    if schedule.by_step:
        log.writeline(schedule.line(inputs.epochs_to_do))
    if train.loss is not None or train.energy_loss_weight is not None:
        log.writeline(loss_line(inputs))
    return StepOptions(schedule, train.grad_clip, train.ema)


def _sampler(
    settled: Settled, trained: Sequence[str], process: Process
) -> FidelityBatchSampler:
    inputs, names = settled.inputs, settled.names
    train_set, sampling = settled.sets[setup.TRAIN], inputs.train.sampling
    shares: str | dict[int, float]
    if isinstance(sampling, dict):
        here = fidelities_of(train_set, names)  # fidelity_only leaves old ones out
        shares = {names.index(n): sampling[n] for n in here}
    else:
        shares = sampling
    drawn = shares, inputs.seed, inputs.host[KEY.TRAIN_SHUFFLE]
    index, ranks = train_set.fidelity_index, (process.rank, process.world_size)
    limit = inputs.train.batch_edges
    if limit is None:
        joint = inputs.batch_size * process.world_size
        steps = _steps_per_epoch(inputs, train_set, trained, joint)
        return FidelityBatchSampler(
            index, len(names), inputs.batch_size, *drawn, *ranks, steps
        )
    n_edges = train_set.n_edges
    sampler = EqualWorkSampler(n_edges, limit, index, len(names), *drawn, *ranks)
    in_one = sampler.structures_per_batch * process.world_size
    steps = _steps_per_epoch(inputs, train_set, trained, in_one)
    sampler.steps_per_epoch = steps or sampler.steps_per_epoch
    _say_batches(train_set, n_edges, limit, sampler.structures_per_batch)
    return sampler


def _say_batches(
    train_set: FidelityDataset, n_edges: Ints, limit: int, average: float
) -> None:
    """Say how large batches are, and which structures exceed the limit alone."""
    log = Logger()
    log.writeline(
        f'Batches of at most {limit} edges: {average:.1f} structures on average'
    )
    large = np.flatnonzero(n_edges > limit)
    if len(large):
        most = int(n_edges.argmax())
        message = (
            f'train.fidelity.batch_edges: {limit} is less than the edges of '
            f'{structures(len(large))}, each of which is a batch of its own. The '
            f'largest, {train_set.source(most)}, has {n_edges[most]}.'
        )
        log.writeline(f'WARNING: {message}')
        warnings.warn(message, UserWarning, stacklevel=2)


def _loaded(
    settled: Settled, sampler: FidelityBatchSampler, process: Process
) -> dict[str, DataSet]:
    """The sets with what draws their batches."""
    inputs, names, sets = settled.inputs, settled.names, settled.sets
    train_set = sets[setup.TRAIN]
    on_gpu = process.device(inputs.host[KEY.DEVICE]).type == 'cuda'
    workers = int(inputs.host.get(KEY.NUM_WORKERS) or 0)
    few = _a_few(train_set)
    loaded = {
        setup.TRAIN: DataSet(
            train_set,
            make_loader(train_set, sampler, workers, on_gpu),
            fidelities_of(train_set, names),
            probe=make_loader(few, _in_order(few, inputs)),
        )
    }
    for name, dataset in sets.items():
        if name != setup.TRAIN:
            mine = _in_order(dataset, inputs, process.rank, process.world_size)
            loader = make_loader(dataset, mine)
            loaded[name] = DataSet(dataset, loader, fidelities_of(dataset, names))
    return loaded


def _in_order(
    dataset: FidelityDataset, inputs: RunInputs, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Batches that have each structure once, in order, on one of the ranks."""
    limit = inputs.train.batch_edges
    if limit is None:
        return eval_batches(len(dataset), inputs.batch_size, rank, world_size)
    return batches_in_order(dataset.n_edges, limit, rank, world_size)


def _steps_per_epoch(
    inputs: RunInputs,
    train_set: FidelityDataset,
    trained: Sequence[str],
    in_one: float,
) -> int | None:
    """As asked for; otherwise inferred labels do not make an epoch longer.

    Where the YAML does not say how long the run is, the least steps of the recipe,
    or a pass over the structures of `trained`, the fidelities that it is for.

    in_one: structures of a step over all processes.
    """
    asked, least = inputs.train.steps_per_epoch, inputs.least_steps
    computed = ~train_set.inferred
    if asked or (least is None and computed.all()):
        return asked
    if least is not None:
        own = np.concatenate([train_set.rows_of(name) for name in trained])
        computed = computed[own]
    return max(least or 1, math.ceil(int(computed.sum()) / in_one))


def fidelities_of(dataset: FidelityDataset, names: Sequence[str]) -> list[str]:
    """Return the names of the fidelities in a set."""
    return [names[i] for i in np.unique(dataset.fidelity_index)]


def _a_few(dataset: FidelityDataset, n: int = 32) -> FidelityDataset:
    """The first n structures of each fidelity: what theta_T's size is probed on."""
    rows = [dataset.rows_of(name)[:n] for name in dataset.fidelities]
    return dataset.subset(np.concatenate(rows))


def _labelled(train_set: FidelityDataset, n: int) -> dict[str, np.ndarray]:
    """rho_fk: the share of each fidelity's structures that have each label."""
    index = train_set.fidelity_index
    count = np.maximum(np.bincount(index, minlength=n), 1)
    return {
        label: np.bincount(index[train_set.has[label]], minlength=n) / count
        for label, *_ in LABELS
    }


def _validation_set(target: str, sets: dict[str, DataSet]) -> str:
    """The set whose target metric selects the best checkpoint."""
    held = {name: data.fidelities for name, data in sets.items()}
    candidates = checks.choosing(target, held)
    if not candidates:
        Logger().writeline(f'WARNING: {checks.no_validation(target).message}')
    return candidates[0] if candidates else setup.TRAIN
