"""Runs as jobs of a Slurm cluster: submitting, watching and finding them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from typing import Any

from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.files import read_json, write_json
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.study import status
from sevennet_mf.study.plan.study_yaml import RunOptions
from sevennet_mf.study.running.schedule import Schedule
from sevennet_mf.study.running.slurm_job import Submitter
from sevennet_mf.study.running.worker_process import COMMAND
from sevennet_mf.study.status import AnyRun, Status

JOB_FILE = 'slurm.json'  # in the folder of a run: its last job
PAUSE = 1.0  # s between looks at the files of the runs
ASK = 20.0  # s between requests to Slurm, which also serves others
SETTLE = 30.0  # s until files written by a node are visible here

# the jobs of this user, one line for each
QUEUE = ('squeue', '--me', '--noheader', '--array', '--format=%i %T')


def work(
    schedule: Schedule, options: RunOptions, command: Sequence[str] = COMMAND
) -> None:
    """Submit the runs that are neither done nor in the queue, and watch them.

    A run that needs others is submitted at once, to start after them. Ctrl-C or
    SIGTERM only ends the watching: the jobs stay.

    Raises:
        TrainingStopped: After a signal.
        UserError: For options that cannot be used, or if Slurm refuses.
    """
    folder = status.study_folder(next(iter(schedule.runs.values()))) / 'slurm'
    at_once = None if options.parallel == 'auto' else options.parallel
    submitter = Submitter(
        folder, options.slurm or {}, options.threads, at_once, command
    )
    watch = Watch(schedule, submitter)
    with StopRequest().listening() as stop:
        watch.attach()
        while not schedule.over and not stop:
            watch.submit()
            watch.look()
            time.sleep(0 if schedule.over else PAUSE)
    if not schedule.over:
        raise TrainingStopped(watch.leave(stop.name))
    watch.settle()


class Watch:
    """The jobs of a study's runs, by the name of the run."""

    def __init__(self, schedule: Schedule, submitter: Submitter) -> None:
        self.schedule = schedule
        self.submitter = submitter
        self.jobs: dict[str, str] = {}
        self.local: dict[str, Any] = {}  # jobs of submitit's local executor
        self.asked = float('-inf')
        self.queue: dict[str, str] | None = None
        self.gone: dict[str, float] = {}  # when a job was first missing

    def attach(self) -> None:
        """Find the jobs that an earlier call left in the queue."""
        if self.submitter.cluster != 'slurm':
            return
        for name, run in self.schedule.runs.items():
            job = read_json(run.folder / JOB_FILE).get('job')
            if not job or self.schedule.states[name].ended:
                continue
            queue = self._ask()
            if queue is None:
                raise UserError(
                    'squeue does not answer, so it is unknown which runs of an '
                    'earlier call are still queued. Try again later.'
                )
            if job in queue:
                self.jobs[name] = job

    def submit(self) -> None:
        """Submit all runs that only need runs that are done or submitted."""
        while groups := self._groups():
            for after, runs in groups.items():
                for run in runs:  # the message of an earlier attempt is outdated
                    status.forget_failure(run.folder)
                jobs = self.submitter.submit(runs, after)
                for run, job in zip(runs, jobs, strict=True):
                    self._note(run, job)

    def _groups(self) -> dict[tuple[str, ...], list[AnyRun]]:
        """Runs that can be submitted, by the jobs they have to wait for."""
        # the local executor has no dependencies
        met = self.jobs if self.submitter.cluster == 'slurm' else ()
        groups: dict[tuple[str, ...], list[AnyRun]] = {}
        for run in self.schedule.waiting(met):
            if run.name not in self.jobs:
                after = tuple(self.jobs[n] for n in run.needs if n in self.jobs)
                groups.setdefault(after, []).append(run)
        return groups

    def _note(self, run: AnyRun, job: Any) -> None:
        self.jobs[run.name] = job.job_id
        if self.submitter.cluster == 'local':
            self.local[job.job_id] = job
        said = {'job': job.job_id, 'log': self._log(job.job_id)}
        write_json(run.folder / JOB_FILE, said)
        self.asked = float('-inf')  # the last answer does not know it
        self._show(run.name, 'waiting', job.job_id)

    def look(self) -> None:
        """Update all states from the files and the queue."""
        queue = self._ask()
        for name, job in list(self.jobs.items()):
            now = status.read(self.schedule.runs[name])
            if self.schedule.states[name].ended:  # it needs one that failed
                del self.jobs[name]
                self._cancel([job])
            elif now.state in ('done', 'failed'):
                del self.jobs[name]
                self.schedule.set(name, now)
            elif queue is not None and job not in queue:
                self._missing(name, job)
            else:
                if queue is not None:  # missed once, while it was requeued
                    self.gone.pop(job, None)
                runs = now.state == 'running' or (queue or {}).get(job) == 'RUNNING'
                self._show(name, 'running' if runs else 'waiting', job)

    def _show(self, name: str, state: status.State, job: str) -> None:
        fraction = status.progress(self.schedule.runs[name].folder)
        self.schedule.set(name, Status(state, fraction, f'job {job}'))

    def _missing(self, name: str, job: str) -> None:
        """Handle a job that left the queue without a result or a failure."""
        since = self.gone.setdefault(job, time.monotonic())
        if time.monotonic() - since > SETTLE:
            del self.jobs[name]
            message = (
                f'job {job} ended without a result: cancelled, or out of memory? '
                f'See {self._log(job)}'
            )
            status.write_failure(self.schedule.runs[name].folder, message)
            self.schedule.fail(name, message)

    def settle(self) -> None:
        """Wait for submitit's local jobs to end, which they do on their own."""
        while not all(job.done() for job in self.local.values()):
            time.sleep(PAUSE)

    def _log(self, job: str) -> str:
        return self.submitter.log(job)

    def _ask(self) -> dict[str, str] | None:
        """State of each job in the queue; None if Slurm does not answer."""
        if self.submitter.cluster == 'local':
            return {i: 'RUNNING' for i, job in self.local.items() if not job.done()}
        if time.monotonic() - self.asked > ASK:
            self.queue = _squeue()
            self.asked = time.monotonic()
        return self.queue

    def _cancel(self, jobs: list[str]) -> None:
        if self.submitter.cluster == 'slurm':
            subprocess.run(['scancel', *jobs], capture_output=True, check=False)

    def leave(self, signal_name: str) -> str:
        """Stop watching; return a message about the jobs."""
        done = f'{self.schedule.count("done")} of {len(self.schedule.runs)} runs'
        said = f'stopped by {signal_name}: {done} are done; the same command '
        if self.submitter.cluster == 'local':
            for job in self.local.values():
                job.cancel()
            self.settle()
            return f'{said}resumes it.'
        ids = ' '.join(sorted({job.split('_')[0] for job in self.jobs.values()}))
        return f'{said}watches the others again; `scancel {ids}` ends them.'


def _squeue() -> dict[str, str] | None:
    try:
        said = subprocess.run(QUEUE, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if said.returncode:
        return None
    lines = (line.split() for line in said.stdout.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}
