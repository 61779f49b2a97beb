"""A multi-fidelity training run, from its configuration to its last picture."""

from __future__ import annotations

import os
import warnings
from typing import Any, Final

import sevenn._const as const
import sevenn._keys as KEY
from sevenn.logger import Logger
from sevenn.model_build import build_E3_equivariant_model

import sevennet_mf
from sevennet_mf import files
from sevennet_mf.checkpoint.file import check_version
from sevennet_mf.config import recipe
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.dataset import DRIFT
from sevennet_mf.distributed import Process
from sevennet_mf.model import accelerators
from sevennet_mf.model.fused import carrier, fuse
from sevennet_mf.train.continuing import ewc
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.continuing.replay import drift_of
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop import run_folder, trackers
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.settled import Settled
from sevennet_mf.train.prepare import prepare_data, prepare_fit

Config = dict[str, Any]
DEFAULTS: Final[Config] = const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
SIZE: Final = (
    KEY.NODE_FEATURE_MULTIPLICITY,
    KEY.LMAX,
    KEY.NUM_CONVOLUTION,
    KEY.CUTOFF,
)


def train(
    inputs: RunInputs,
    working_dir: str,
    process: Process | None = None,
    resume: bool = False,
) -> str:
    """Train as a YAML says.

    Returns:
        What to tell the user at the end, on the first process; '' on others.

    Raises:
        UserError: The input cannot work; nothing has been written.
        TrainingStopped: The run was cut short; a resumable checkpoint is on disk.
    """
    sevennet_mf.register()
    process = process or Process()
    log = Logger()
    log.timer_start('total')
    check_folder(working_dir)
    accelerators.check(config=inputs.host)  # SevenNet would train without it
    process.device(inputs.host[KEY.DEVICE])  # fails before anything is read
    for name in inputs.train.report_to:
        trackers.need(name)
    saved = None
    if resume:
        path = os.path.join(working_dir, run_folder.RESUME_FILE)
        saved = run_folder.load_training_state(path)
        check_version(path, saved['config'])
    start = make_start(inputs)
    if start is not None and (line := start.said_of_weights()):
        log.writeline(line)
    for line in recipe.lines(inputs.defaults):
        log.writeline(line)
    settled = prepare_data(inputs, working_dir, process, start)
    fit = _fit(settled, working_dir, process, start)
    if saved is not None:
        fit.resume(saved)
    elif start is not None:
        fit.state.epoch = start.load_into(fit.trainer, inputs.host[KEY.EPOCH]) + 1
    if saved is None and process.rank == 0:
        _set_aside(fit)
    fit.run()
    said = ''
    if process.rank == 0:
        from sevennet_mf.train import finish  # matplotlib, for this process only

        said = finish.closing(fit, finish.draw(fit, start))
    log.timer_end('total', message='Total wall time')
    return said


def _fit(
    settled: Settled,
    working_dir: str,
    process: Process,
    start: Start | None,
) -> Fit:
    """The model, and everything that trains it."""
    log, config = Logger(), settled.config
    drift = None
    if start is not None and DRIFT in settled.sets:
        watched = settled.sets[DRIFT]
        drift = process.share(lambda: drift_of(start, watched))
    _log_sets(log, settled)
    log.write('\nModel building...\n')
    model = fuse(build_E3_equivariant_model(config))
    log.print_model_info(model, config)
    log.format_k_v('Convolution', carrier(config, model), write=True)
    if start is None and process.rank == 0:
        _tell_default_model(log, model, config)
    fit = prepare_fit(settled, model, working_dir, process, start, drift)
    if start is not None and ewc.asked(start):
        fit.trainer.loss_functions.append(ewc.term(start, fit.trainer))
    return fit


def _set_aside(fit: Fit) -> None:
    """Move an earlier run's checkpoints aside, and say so."""
    files.tidy(fit.working_dir)
    moved = run_folder.set_aside(fit.working_dir)
    if moved:
        fit.follow(moved)
        message = f'checkpoints of an earlier run are now in {moved}'
        Logger().writeline(message)
        warnings.warn(message, UserWarning, stacklevel=3)


def _tell_default_model(log: Logger, model: Any, config: Config) -> None:
    """Say how large the model is if the YAML does not."""
    if any(config[key] != DEFAULTS[key] for key in SIZE):
        return
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes = ', '.join(f'{key} {config[key]}' for key in SIZE)
    message = (
        f"the model has SevenNet's default size: {weights} weights ({sizes}). "
        'Set it with these keys under `model`.'
    )
    log.writeline(message)
    warnings.warn(message, UserWarning, stacklevel=2)


def check_folder(working_dir: str) -> None:
    """Make the output folder; raise UserError if it is not writable."""
    files.make_folder(
        working_dir, 'Choose another folder with -w.', to_write=True
    )


def _log_sets(log: Logger, settled: Settled) -> None:
    log.bar()
    for name, by_fidelity in settled.provenance['data'].items():
        for fidelity, counts in by_fidelity.items():
            log.format_k_v(f'{name} {fidelity}', counts, write=True)
    log.bar()
