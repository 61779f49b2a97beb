"""Runs in parallel on the cores or GPUs of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.files import read_json
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.program import threads
from sevennet_mf.study import status
from sevennet_mf.study.plan.study_yaml import RunOptions
from sevennet_mf.study.running.schedule import Schedule
from sevennet_mf.study.running.worker_process import COMMAND, Worker

PAUSE = 0.1  # s between looks at the workers
LOOK = 1.0  # s between looks at their learning curves


def work(
    schedule: Schedule, options: RunOptions, command: Sequence[str] = COMMAND
) -> None:
    """Do the runs that are not done; a failed one does not stop the others.

    SIGTERM or Ctrl-C is passed on once; then this waits for the workers to write
    what the same command resumes from. A second Ctrl-C kills them.

    Raises:
        TrainingStopped: After a signal.
    """
    found = places(options, uses_gpus(schedule))
    pool = Pool(schedule, found, command)
    with StopRequest().listening() as stop:
        try:
            while not schedule.over and not stop:
                pool.start()
                time.sleep(PAUSE)
                pool.collect()
            pool.stop()
        finally:
            pool.kill()
    if not schedule.over:
        raise TrainingStopped(
            f'stopped by {stop.name}: {schedule.count("done")} of '
            f'{len(schedule.runs)} runs are done; the same command resumes it.'
        )


def uses_gpus(schedule: Schedule) -> bool:
    """Return whether a run may train on a GPU, according to its `train.device`."""
    told = (
        read_json(r.folder / status.RUN_FILE) for r in schedule.runs.values()
    )
    return any(run.get('device', 'auto') != 'cpu' for run in told)


def places(options: RunOptions, on_gpus: bool = True) -> list[dict[str, str]]:
    """Return the environment of each worker that may run at the same time.

    Each has a GPU of its own, if there are GPUs and not more workers than GPUs.

    Args:
        on_gpus: Whether runs use GPUs.
    """
    common = threads(options.threads)
    devices = gpus() if on_gpus else []
    if options.parallel == 'auto':
        cores = len(os.sched_getaffinity(0))
        number = len(devices) or max(1, cores // options.threads)
    else:
        number = options.parallel
    if not devices:
        return [common] * number
    return [
        {**common, 'CUDA_VISIBLE_DEVICES': devices[i % len(devices)]}
        for i in range(number)
    ]


def gpus() -> list[str]:
    """Return the GPUs of this process, named as in CUDA_VISIBLE_DEVICES."""
    import torch  # takes seconds; not before the command line is checked

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES', '')
    names = [name.strip() for name in chosen.split(',') if name.strip()]
    return (names or [str(i) for i in range(count)])[:count]


class Pool:
    """The running workers, each in a place of its own."""

    def __init__(
        self,
        schedule: Schedule,
        environments: list[dict[str, str]],
        command: Sequence[str],
    ) -> None:
        self.schedule = schedule
        self.free = list(environments)
        self.command = command
        self.workers: dict[str, tuple[Worker, dict[str, str]]] = {}
        self.looked = 0.0

    def start(self) -> None:
        """Start runs that may start, as long as there are free places."""
        for run in self.schedule.waiting():
            if not self.free:
                return
            try:
                worker = Worker(run.folder, self.free[0], self.command)
            except (OSError, UserError) as error:  # no memory, no such program
                self.schedule.fail(run.name, str(error))
                continue
            self.workers[run.name] = (worker, self.free.pop(0))
            now = self.schedule.states[run.name]
            self.schedule.set(run.name, replace(now, state='running'))

    def collect(self, stopping: bool = False) -> None:
        """Update how far the workers are, and which ones ended."""
        look = time.monotonic() - self.looked > LOOK
        for name, (worker, place) in list(self.workers.items()):
            if worker.ended():
                del self.workers[name]
                self.free.append(place)
                self._conclude(name, worker, stopping)
            elif look:
                fraction = status.progress(worker.folder)
                self.schedule.set(name, status.Status('running', fraction))
        if look:
            self.looked = time.monotonic()

    def _conclude(self, name: str, worker: Worker, stopping: bool) -> None:
        fraction = status.progress(worker.folder)
        if read_json(worker.folder / status.RESULT_FILE):
            self.schedule.set(name, status.read(self.schedule.runs[name]))
        elif stopping:
            # being stopped is not a failure, whatever its message says
            status.forget_failure(worker.folder)
            self.schedule.set(name, status.Status('interrupted', fraction))
        else:
            self.schedule.fail(name, worker.failure())

    def stop(self) -> None:
        """Make the workers write what they can resume from, and wait for them."""
        for worker, _ in self.workers.values():
            worker.signal(signal.SIGTERM)
        while self.workers:
            time.sleep(PAUSE)
            self.collect(stopping=True)

    def kill(self) -> None:
        """Kill all remaining workers."""
        for worker, _ in self.workers.values():
            worker.signal(signal.SIGKILL)
            worker.wait()
