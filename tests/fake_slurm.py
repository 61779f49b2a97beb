"""As much of Slurm as a study uses: sbatch, srun, squeue, scancel, on this machine.

A queue is a folder: `queue/ID` with the state of a job that waits or runs and the
process that runs it, `end/ID` with the exit code of one that ended. What a job
cannot start after any more is dropped, as with --kill-on-invalid-dep=yes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

TOOLS = ('sbatch', 'srun', 'squeue', 'scancel')
LIMIT = 120.0  # s that a job waits for others


def install(folder: Path) -> str:
    """Write the tools into `folder`; returns what PATH has to begin with."""
    for part in ('bin', 'queue', 'end'):
        (folder / part).mkdir(parents=True)
    for tool in TOOLS:
        path = folder / 'bin' / tool
        path.write_text(
            f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} {tool} "$@"\n',
            encoding='utf-8',
        )
        path.chmod(0o755)
    return str(folder / 'bin')


def sbatch(folder: Path, script: str) -> None:
    """Put the job of a script, or all of its array, into the queue."""
    text = Path(script).read_text(encoding='utf-8')
    said = dict(re.findall(r'^#SBATCH --([\w-]+)=(.*)$', text, re.MULTILINE))
    if said.get('partition') == 'closed':
        sys.exit('sbatch: error: invalid partition specified: closed')
    number = str(len(list(folder.glob('submitted*'))) + 1)
    (folder / f'submitted{number}').write_text(text, encoding='utf-8')
    array = re.fullmatch(r'0-(\d+)%\d+', said.get('array', ''))
    tasks = [f'_{i}' for i in range(int(array[1]) + 1)] if array else ['']
    for task in tasks:
        (folder / 'queue' / f'{number}{task}').write_text('PENDING')
        subprocess.Popen(
            [sys.executable, __file__, str(folder), 'job', f'{number}{task}', script]
            + said.get('dependency', '').split(':')[1:],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    sys.stdout.write(f'Submitted batch job {number}\n')


def job(folder: Path, name: str, script: str, *after: str) -> None:
    """One job: wait for others, run the script, leave the queue."""
    place = folder / 'queue' / name
    end = time.monotonic() + LIMIT
    ends = [folder / 'end' / other for other in after]
    while not all(e.exists() for e in ends) and place.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    if not place.exists():  # scancel
        return
    code = 1
    if all(e.read_text() == '0' for e in ends):
        number, _, task = name.partition('_')
        where = {'SLURM_JOB_ID': number, 'SLURM_PROCID': '0'}
        if task:
            where |= {'SLURM_ARRAY_JOB_ID': number, 'SLURM_ARRAY_TASK_ID': task}
        place.write_text(f'RUNNING {os.getpid()}')
        code = subprocess.run(
            ['bash', script], env={**os.environ, **where}, check=False
        ).returncode
    (folder / 'end' / f'.{name}').write_text(str(code))
    (folder / 'end' / f'.{name}').rename(folder / 'end' / name)
    place.unlink(missing_ok=True)


def srun(folder: Path, *arguments: str) -> None:
    """Run the command in place of this process."""
    command = list(arguments)
    while command[0].startswith('--'):
        taken = 2 if command[0] in ('--output', '--error') else 1
        command = command[taken:]
    os.execvp(command[0], command)


def squeue(folder: Path, *arguments: str) -> None:
    """A line for each job: its id and state."""
    for path in (folder / 'queue').iterdir():
        state = path.read_text().split()
        sys.stdout.write(f'{path.name} {state[0]}\n')


def scancel(folder: Path, *jobs: str) -> None:
    """SIGTERM to what runs, as Slurm begins; what waits leaves the queue."""
    for path in (folder / 'queue').iterdir():
        if path.name in jobs or path.name.split('_')[0] in jobs:
            state = path.read_text().split()
            if state[0] == 'RUNNING':
                terminate_step(int(state[1]))
            else:
                path.unlink()


def terminate_step(group: int) -> None:
    """SIGTERM to what srun started, not to the shell that runs the script."""
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        process = int(path.parent.name)
        with contextlib.suppress(OSError):  # it has ended
            is_step = b'submitit.core._submit' in path.read_bytes()
            if is_step and os.getpgid(process) == group:
                os.kill(process, signal.SIGTERM)


if __name__ == '__main__':
    globals()[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
