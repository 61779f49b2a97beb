"""The process that does one run: its stages in order, then the measurement.

    python -m sevennet_mf.study.running.worker [--trust] RUN_FOLDER

Finished stages are skipped, and an interrupted one is resumed. At the end there is
result.json, or failed.json and exit code 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.errors import HostError, TrainingStopped, UserError
from sevennet_mf.files import read_json, write_json
from sevennet_mf.study.running.train_process import (
    Interrupted,
    Signals,
    Stage,
    StageFailed,
    is_trained,
    train,
)
from sevennet_mf.study.running.worker_process import TRUST
from sevennet_mf.study.runs import DIFFERENCES, FOLDED, TRAINING, Run, read_run
from sevennet_mf.study.status import RESULT_FILE, forget_failure, write_failure

# what the stages of a run record for its result.json
NOTES: Final[str] = 'notes.json'


def do(run: Run, stage: Stage, signals: Signals) -> None:
    """Do a stage of a run, unless it is done.

    Raises:
        StageFailed: If training fails.
        Interrupted: After a signal.
    """
    if stage['kind'] == 'train':
        if not is_trained(run, stage):
            train(run, stage, signals)
    elif stage['kind'] == 'differences':
        _differences(run, stage)
    else:
        assert stage['kind'] == 'fold', stage
        _fold(run, stage)


def _differences(run: Run, stage: Stage) -> None:
    """Write the labels that the model of a difference is trained on."""
    from sevennet_mf.model.load import load_model
    from sevennet_mf.study.running import differences
    from sevennet_mf.study.running.measure import checkpoint_of

    wanted = {
        run.folder / name: stage[part]
        for name, part in zip(DIFFERENCES, ('train', 'valid'), strict=True)
        if stage[part]
    }
    if all(path.is_file() for path in wanted) and 'differences' in notes_of(run):
        return
    low = load_model(str(checkpoint_of(run.needed())))
    fidelity = stage['fidelity']
    paired = differences.read_paired(stage['paired'], fidelity, low.cutoff)
    counts = {}
    for path, (entry,) in wanted.items():
        # validation, like the test, is of the sum of both models
        known = paired if path.stem == 'train' else differences.Paired()
        counts[path.stem] = differences.write(
            low, entry, fidelity, known, path, device_of(run)
        )
    note(run, differences=counts)


def _fold(run: Run, stage: Stage) -> None:
    """Write one fidelity of the low model as a model of its own."""
    from sevennet_mf.deploy.export import export
    from sevennet_mf.study.running.measure import checkpoint_of

    path = run.folder / FOLDED
    if not path.is_file():
        export(str(checkpoint_of(run.needed())), str(path), stage['fidelity'])


# ---- what stages record for the end


def device_of(run: Run) -> str:
    """Return `train.device` of a run's YAML."""
    from sevennet_mf.config import inputs

    sections = inputs.load_yaml(str(run.folder / f'{TRAINING}.yaml'))
    return str(sections['train'].get('device', 'auto'))


def notes_of(run: Run) -> dict[str, Any]:
    """Return the notes of a run: seconds by stage, and what stages have added."""
    return read_json(run.folder / NOTES)


def note(run: Run, **more: Any) -> None:
    """Add to the notes of a run."""
    write_json(run.folder / NOTES, {**notes_of(run), **more})


def work(folder: str) -> None:
    """Do the run of a folder, as far as it is not done.

    Raises:
        StageFailed: If a stage fails.
        Interrupted: After a signal, which is passed on to the training so that it
            can be resumed.
    """
    run = read_run(folder)
    forget_failure(run.folder)
    if read_json(run.folder / RESULT_FILE):
        return
    if reason := run.content.get('cannot'):
        raise StageFailed('plan', reason)
    with Signals() as signals:
        for stage in run.stages:
            with _named(stage['kind']), _timed(run, stage['kind']):
                do(run, stage, signals)
        with _named('test'):
            _measure(run)


def _measure(run: Run) -> None:
    from sevennet_mf.study.running.measure import write_result

    notes = notes_of(run)
    seconds = sum(notes.pop('seconds', {}).values())
    write_result(run, device_of(run), seconds, notes)


@contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    """Add the duration to that of earlier attempts at the stage."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = dict(notes_of(run).get('seconds') or {})
        spent = time.monotonic() - started
        seconds[stage] = seconds.get(stage, 0.0) + round(spent, 1)
        with suppress(UserError):  # a full disk: the stage has reported it
            note(run, seconds=seconds)


@contextmanager
def _named(stage: str) -> Iterator[None]:
    """Turn errors into failures of a stage."""
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        text = ' '.join(str(error).split())
        if not isinstance(error, (UserError, HostError, TrainingStopped)):
            text = f'{type(error).__name__}: {text}'
        raise StageFailed(stage, text) from error


def main(argv: Sequence[str]) -> int:
    """Do one run; return 0, or 1 if it failed, or 128 + n after signal n."""
    *options, folder = argv
    try:
        with unpickle.trusting(TRUST in options):
            work(folder)
    except Interrupted as stop:
        sys.stderr.write(f'stopped by {stop}\n')
        return 128 + stop.number
    except (StageFailed, UserError) as error:
        stage = error.stage if isinstance(error, StageFailed) else None
        if stage is None or not isinstance(error.__cause__, UserError):
            _show(error)
        sys.stderr.write(f'{error}\n')
        if Path(folder).is_dir():
            write_failure(Path(folder), str(error), stage)
        return 1
    return 0


def _show(error: BaseException) -> None:
    """Print the traceback of an unexpected error, for the log."""
    import traceback

    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
