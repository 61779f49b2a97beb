"""What a Slurm job does, and how jobs are submitted, both through submitit."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sevennet_mf.errors import UserError, unknown
from sevennet_mf.files import read_json
from sevennet_mf.program import threads
from sevennet_mf.study import status
from sevennet_mf.study.running.worker_process import Worker

if TYPE_CHECKING:
    import submitit

# names in submitit of parameters that every cluster has
SHARED = ('timeout_min', 'mem_gb', 'cpus_per_task', 'gpus_per_node')
# set here, or meaningless for runs of one process
OURS = ('nodes', 'ntasks_per_node', 'dependency', 'map_count', 'array_parallelism')
# a job that reaches its time limit is resumed from its checkpoint each time
REQUEUES = 100
NOT_RESUMED = (
    "the job reached its time limit before the run was done: SevenNet's own "
    'training cannot be resumed. Raise run.slurm.timeout_min.'
)
# s for a process of an earlier job or study to write its checkpoint
PATIENCE = 60.0


class Job:
    """What runs on the node: the worker of one run.

    Slurm's signals (time limit, preemption, scancel) make the worker write what it
    can resume from; submitit then puts the job into the queue again, except after
    scancel.
    """

    def __init__(self, folder: str, number: int, command: Sequence[str]) -> None:
        self.folder = folder
        self.threads = number
        self.command = tuple(command)

    def __call__(self) -> None:
        """Do the run.

        Raises:
            RuntimeError: If there is no result; jobs with `afterok` then do not
                start.
        """
        self.stopped = False
        self.worker = Worker(
            Path(self.folder), threads(self.threads), self.command, PATIENCE
        )
        # in place of submitit's handler, which ignores it
        signal.signal(signal.SIGTERM, lambda number, frame: self._stop())
        self.worker.wait()
        if self.stopped:
            status.forget_failure(Path(self.folder))
        elif not (message := self.worker.failure()):
            return
        raise RuntimeError('it was stopped' if self.stopped else message)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission | None:
        """Stop the worker and return the job that resumes it.

        Called by submitit in a signal handler before the time limit.

        Returns:
            The next job. None for SevenNet's own training, which has failed: it
            would start again from the beginning, and not get any further.
        """
        from submitit.helpers import DelayedSubmission

        self._stop()
        self.worker.wait_for_end()
        if self._starts_anew():
            status.write_failure(Path(self.folder), NOT_RESUMED)
            return None
        again = Job(self.folder, self.threads, self.command)
        return DelayedSubmission(again)

    def _starts_anew(self) -> bool:
        run = read_json(Path(self.folder) / status.RUN_FILE)
        return any(stage.get('host') for stage in run.get('stages', []))

    def _stop(self) -> None:
        self.stopped = True
        self.worker.signal(signal.SIGTERM)


class Submitter:
    """Submits runs with the parameters in `run.slurm` of study.yaml.

    Args:
        folder: Folder for the files of submitit.
        given: Parameters by submitit's names, those of Slurm with or without the
            prefix `slurm_`; and `cluster: local`, which runs jobs without a cluster.
        number: Cores per run.
        at_once: How many jobs may run at the same time; None: no limit.
        command: The worker; the folder of the run is added.

    Raises:
        UserError: For parameters that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        given: dict[str, Any],
        number: int,
        at_once: int | None,
        command: Sequence[str],
    ) -> None:
        self.folder = folder
        self.threads = number
        self.command = command
        given = dict(given)
        self.cluster = given.pop('cluster', 'slurm')
        if self.cluster not in ('slurm', 'local'):
            raise unknown('run.slurm.cluster', self.cluster, ('slurm', 'local'))
        self.submitit = load()
        if self.cluster == 'slurm' and shutil.which('srun') is None:
            raise UserError(
                'run.slurm: there is no Slurm here (no srun). Start the study where '
                'sbatch works, or leave `slurm` out to use this machine.'
            )
        self.parameters = {
            'name': 'sevennet-mf',
            'cpus_per_task': number,
            **_translated(given, self.submitit),
        }
        if at_once is not None:
            self.parameters['slurm_array_parallelism'] = at_once
        self._executor('')  # to report a wrong value before anything starts

    def submit(
        self, runs: Sequence[status.AnyRun], after: Sequence[str]
    ) -> list[submitit.Job[Any]]:
        """Submit runs, several of them as an array.

        Args:
            after: Ids of jobs that must be done first.

        Raises:
            UserError: If sbatch refuses, with its message.
        """
        dependency = 'afterok:' + ':'.join(after) if after else ''
        jobs = [Job(str(run.folder), self.threads, self.command) for run in runs]
        try:
            return list(self._executor(dependency).submit_array(jobs))
        except RuntimeError as error:
            said = str(error).strip().splitlines() or ['no reason given']
            raise UserError(f'sbatch refused: {said[-1]}') from None

    def log(self, job_id: str) -> str:
        """Return the path of a job's messages."""
        return str(self.folder / f'{job_id}_0_log.err')

    def _executor(self, dependency: str) -> submitit.AutoExecutor:
        parameters = dict(self.parameters)
        if dependency:
            more = dict(parameters.get('slurm_additional_parameters') or {})
            # otherwise runs that need a failed one wait in the queue for ever
            more.setdefault('kill-on-invalid-dep', 'yes')
            parameters['slurm_additional_parameters'] = more
            parameters['slurm_dependency'] = dependency
        executor = self.submitit.AutoExecutor(
            self.folder, cluster=self.cluster, slurm_max_num_timeout=REQUEUES
        )
        try:
            executor.update_parameters(**parameters)
        except (AssertionError, NameError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'run.slurm cannot be used: {reason}') from None
        return executor


def load() -> ModuleType:
    """Return submitit.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            'run.slurm needs submitit: pip install "sevennet_mf[slurm]"'
        ) from None
    return submitit


def _translated(given: dict[str, Any], submitit: ModuleType) -> dict[str, Any]:
    """Return the parameters as AutoExecutor names them; UserError if unknown."""
    own = set(submitit.SlurmExecutor._valid_parameters()) - set(OURS)
    known = [*SHARED, *sorted(own - set(SHARED))]
    found = {}
    for key, value in given.items():
        name = key.removeprefix('slurm_')
        if name not in known:
            raise unknown('run.slurm', key, known)
        found[name if name in SHARED else f'slurm_{name}'] = value
    if not {'timeout_min', 'slurm_time'} & found.keys():
        raise UserError(
            'run.slurm needs timeout_min: the minutes a job may take. A run that '
            'takes longer is resumed in another job.'
        )
    return found
