"""A multi-fidelity training run, from its configuration to its last picture."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any, Final

import sevenn
import sevenn._const as const
import sevenn._keys as KEY
from sevenn.logger import Logger
from sevenn.model_build import build_E3_equivariant_model

import sevennet_mf
from sevennet_mf import files, keys
from sevennet_mf.checkpoint.file import check_version
from sevennet_mf.config import recipe
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.distributed import Process
from sevennet_mf.model import accelerators
from sevennet_mf.model.fused import carrier, fuse
from sevennet_mf.train.continuing import ewc
from sevennet_mf.train.continuing.drift import of_checkpoint, with_metrics
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.prepare import prepare_data, prepare_fit
from sevennet_mf.train.setup import DRIFT

Config = dict[str, Any]
DEFAULTS: Final[Config] = const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
SIZE: Final = (
    KEY.NODE_FEATURE_MULTIPLICITY,
    KEY.LMAX,
    KEY.NUM_CONVOLUTION,
    KEY.CUTOFF,
)


def train(
    config: Config,
    working_dir: str,
    process: Process | None = None,
    resume: bool = False,
) -> str:
    """Train as a configuration says, which is changed on the way.

    config: as `merged` gives it. Returns what to tell the user at the end, on the
    first process; '' on others.
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
        path = os.path.join(working_dir, run_folder.RESUME_FILE)
        saved = run_folder.load_training_state(path)
        check_version(path, saved['config'])
    start = make_start(config)
    for line in recipe.lines(config.get(keys.DEFAULTS) or {}):
        log.writeline(line)
    sets = prepare_data(config, working_dir, process, start)
    drift = None
    if start is not None and DRIFT in sets:
        with_metrics(config)
        drift = process.share(lambda: of_checkpoint(config, start, sets[DRIFT]))
    _log_sets(log, config, sets)
    log.write('\nModel building...\n')
    model = fuse(build_E3_equivariant_model(config))
    log.print_model_info(model, config)
    log.format_k_v('Convolution', carrier(config, model), write=True)
    if start is None and process.rank == 0:
        _tell_default_model(log, model, config)
    fit = prepare_fit(config, model, sets, working_dir, process, start, drift)
    if start is not None and ewc.asked(config):
        fit.trainer.loss_functions.append(ewc.term(config, start, fit.trainer))
    if saved is not None:
        fit.resume(saved)
    elif start is not None:
        fit.state.epoch = start.load_into(fit.trainer, config[KEY.EPOCH]) + 1
    if saved is None and process.rank == 0:
        files.tidy(working_dir)
        moved = run_folder.set_aside(working_dir)
        if moved:
            _follow(config, working_dir, moved)
            message = f'checkpoints of an earlier run are now in {moved}'
            log.writeline(message)
            warnings.warn(message, UserWarning, stacklevel=2)
    fit.run()
    said = ''
    if process.rank == 0:
        from sevennet_mf.train import finish  # matplotlib, for this process only

        said = finish.closing(fit, finish.draw(fit, start))
    log.timer_end('total', message='Total wall time')
    return said


def _tell_default_model(log: Logger, model: Any, config: Config) -> None:
    """Say how large the model is where the YAML does not."""
    if any(config[key] != DEFAULTS[key] for key in SIZE):
        return
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes = ', '.join(f'{key} {config[key]}' for key in SIZE)
    message = (
        f"the model is of SevenNet's default size: {weights} weights ({sizes}). "
        'These keys under `model` set another one.'
    )
    log.writeline(message)
    warnings.warn(message, UserWarning, stacklevel=2)


def merged(configs: tuple[Config, Config, Config], process: Process) -> Config:
    """Return the host's merged dictionary of what inputs.from_sections gives."""
    model, train_config, data = configs
    return {
        'version': sevenn.__version__,
        'when': time.ctime(),
        '_model_type': 'E3_equivariant_model',
        **model,
        **train_config,
        **data,
        KEY.IS_DDP: process.distributed,
        KEY.DDP_BACKEND: process.backend,
        KEY.LOCAL_RANK: process.local_rank,
        KEY.RANK: process.rank,
        KEY.WORLD_SIZE: process.world_size,
    }


def check_folder(working_dir: str) -> None:
    """Make the output folder; UserError if nothing can be written there."""
    files.make_folder(
        working_dir, 'Choose another folder with -w.', to_write=True
    )


def _follow(config: Config, working_dir: str, moved: str) -> None:
    """Note where the checkpoint is that a run began from, for its resumption."""
    block = config[KEY.CONTINUE]
    path = block[KEY.CHECKPOINT]
    if path and run_folder.is_set_aside(path, working_dir):
        block[KEY.CHECKPOINT] = os.path.join(moved, os.path.basename(path))


def _log_sets(log: Logger, config: Config, sets: dict[str, FidelityDataset]) -> None:
    log.bar()
    for name, by_fidelity in config[keys.PROVENANCE]['data'].items():
        for fidelity, counts in by_fidelity.items():
            log.format_k_v(f'{name} {fidelity}', counts, write=True)
    log.bar()
