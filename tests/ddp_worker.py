"""One of two processes that train together; run by two_processes() of conftest.

    python ddp_worker.py <folder>

with torchrun's variables set. Writes what the tests of several processes look
at to <folder>/rank<k>.pt; every rank has a working folder of its own, so that it
shows who writes.
"""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import sevenn._keys as KEY
import torch
from helpers import ENCODINGS, randomise
from train_helpers import (
    PBE,
    R2SCAN,
    VALID,
    batch_of,
    entry,
    fit_of,
    gradients,
    weights,
    yaml_of,
)

from sevennet_mf.distributed import Process, process_group
from sevennet_mf.errors import TrainingStopped
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.trainer import BadLoss

# structures of each rank: 0-5 pbe, 6-9 r2scan
HALVES = {
    'mixed': ([0, 7], [8, 3]),
    'one fidelity each': ([0, 1], [6, 7]),
    'absent': ([0, 1], [2, 3]),
    'padded': ([0, 7], [8, -1 - 8]),
}


# what belongs to one encoding here, so that others are tested without it
OF_GAIN: dict[str, Any] = {
    'loss': {'energy': 'mae', 'force': 'l2mae'},
    'energy_loss_weight': 3.0,
    'grad_clip': 0.5,
    'ema': {'decay': 0.9},
    'schedule_by': 'step',
    'early_stopping': {'patience': 1},
}


def sections(encoding: str, **train: Any) -> dict[str, Any]:
    """A YAML whose penalty is large enough to be seen; two structures a process."""
    valid = [VALID, entry('pbe_valid', 'pbe', ':2')]
    fidelity = {
        'model': {'encoding': encoding},
        'train': {
            'regularization': 0.1,
            'loss_weight': {'r2scan': 7.0},
            'checkpoint_every': 1,
            **(OF_GAIN if encoding == 'gain' else {}),
        },
    }
    return yaml_of(
        train=[PBE, R2SCAN],
        valid=valid,
        fidelity=fidelity,
        data={'batch_size': 2},
        **train,
    )


def joint_gradients(folder: Path, process: Process) -> dict[str, dict]:
    """{encoding: {case: gradients}} after the processes have averaged them."""
    found: dict[str, dict] = {}
    still = {'optimizer': 'sgd', 'optim_param': {'lr': 0.0}}
    for encoding in ENCODINGS:
        fit = fit_of(sections(encoding, **still), folder, process)
        randomise(fit.trainer.module)
        dataset = fit.sets['trainset'].dataset
        found[encoding] = {}
        for case, halves in HALVES.items():
            joint = batch_of(dataset, [*halves[0], *halves[1]])
            present = fit.trainer._present(joint)
            batch = batch_of(dataset, halves[process.rank])
            fit.trainer.step(batch, present=present)
            found[encoding][case] = gradients(fit.trainer.module)
    return found


def agreed(folder: Path, process: Process) -> dict[str, Any]:
    """What one rank knows and all must: a request to stop, a bad loss."""
    fit = fit_of(sections('bias'), folder, process)
    batch = batch_of(fit.sets['trainset'].dataset, [process.rank])
    present = torch.tensor([True, False])
    _, stop = fit.trainer.step(batch, process.rank == 1, present)
    before = weights(fit)
    batch = batch_of(fit.sets['trainset'].dataset, [3 + process.rank])
    if process.rank == 1:
        batch[KEY.ENERGY] = batch[KEY.ENERGY] * float('inf')
    try:
        fit.trainer.step(batch, present=present)
    except BadLoss as bad:
        structures, message = bad.structures, fit._bad_loss(bad)
    unchanged = all(torch.equal(v, before[k]) for k, v in weights(fit).items())
    return {
        'stop': stop,
        'structures': structures,
        'message': message,
        'unchanged': unchanged,
    }


def run_and_resume(folder: Path, process: Process) -> dict[str, Any]:
    """A whole run, and one that rank 1 is asked to stop in its second step."""
    # too fast to get better: it ends early
    yaml = sections('gain', epoch=4, optim_param={'lr': 1.0})
    whole = fit_of(yaml, folder / 'whole', process)
    whole.run()
    parts = fit_of(yaml, folder / 'parts', process)
    step, done = parts.trainer.step, []

    def asked(batch: Any, stop: bool, present: torch.Tensor) -> Any:
        done.append(batch)
        return step(batch, len(done) == 2 and process.rank == 1, present)

    parts.trainer.step = asked
    message = ''
    try:
        parts.run()
    except TrainingStopped as stopped:
        message = str(stopped)
    again = fit_of(yaml, folder / 'parts', process)
    saved = folder.parent / 'rank0' / 'parts' / run_folder.RESUME_FILE
    again.resume(run_folder.load_training_state(str(saved)))
    position = (again.state.epoch, again.state.step)
    again.run()
    return {
        'message': message,
        'position': position,
        'whole': weights(whole),
        'resumed': weights(again),
        'average': [f.trainer.evaluated.state_dict() for f in (whole, again)],
        'norms': [f.trainer.gradient_norm for f in (whole, again)],
        'ended': [(f.state.epoch, f.ended) for f in (whole, again)],
        'files': sorted(p.name for p in (folder / 'whole').iterdir()),
    }


def main(folder: Path) -> None:
    with process_group(True, 'gloo') as process:
        own = folder / f'rank{process.rank}'
        for part in ('whole', 'parts'):
            (own / part).mkdir(parents=True)
        result: dict[str, Any] = {'process': copy.copy(process)}
        result['gradients'] = joint_gradients(own, process)
        fit = fit_of(sections('bias'), own, process)
        randomise(fit.trainer.module)
        data = fit.sets['validset']
        assert data.recorder is not None
        fit.trainer.evaluate(data.loader, data.recorder)
        data.recorder.reduce(fit.trainer.device)
        result['values'] = data.recorder.values()
        result['agreed'] = agreed(own, process)
        result['run'] = run_and_resume(own, process)
        torch.save(result, folder / f'rank{process.rank}.pt')


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    torch.use_deterministic_algorithms(True)
    main(Path(sys.argv[1]))
