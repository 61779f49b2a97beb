"""A program that makes MD steps when told to, and stands still otherwise."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from measure import resident

CLOCKS = ('wall', 'cpu')
TICK = 1 / os.sysconf('SC_CLK_TCK')  # s
LOOP = re.compile(r'Loop time of (\S+) on \d+ procs for (\d+) steps')


class Failed(RuntimeError):
    """A program ended before it had made its steps."""


class MdProcess:
    """LAMMPS, or what takes its commands, reading them one by one.

    Nothing runs between `steps`, so that several can be timed in turn. command: to
    start it; script: commands before the first steps. folder: where it runs, and
    where `name`.err is written. stack: limit of its stack in bytes, else as large as
    allowed; memory: limit of its addresses in bytes.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        script: str,
        folder: Path,
        env: Mapping[str, str],
        stack: int = resource.RLIM_INFINITY,
        memory: int = resource.RLIM_INFINITY,
    ) -> None:
        self._errors = folder / f'{name}.err'
        self._said: list[str] = []
        with self._errors.open('w', encoding='utf-8') as errors:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=lambda: _limit(stack, memory),
            )
        self._tell(script)

    def steps(self, n: int, first: bool = False) -> np.ndarray:
        """Make n steps; return seconds of one by CLOCKS: wall, and CPU of all ranks.

        The wall time is that of LAMMPS's own loop. first: the steps of a new run,
        which LAMMPS sets up before it counts their time. Raises Failed.
        """
        self._signal(signal.SIGCONT)
        before = 0.0 if first else self._cpu()
        self._tell(f'run {n}\n' if first else f'run {n} pre no post no\n')
        wall = self._loop_time()
        cpu = self._cpu() - before
        self._signal(signal.SIGSTOP)
        return np.array([wall, cpu]) / n

    def peak_memory(self) -> list[int]:
        """Return the largest resident memory so far, in bytes, of each rank."""
        return [resident('VmHWM', pid) for pid in self._ranks()]

    def close(self) -> None:
        """End it, whatever it does."""
        self._signal(signal.SIGCONT)
        self._process.terminate()  # mpiexec then ends its ranks
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _tell(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def _loop_time(self) -> float:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said = [*self._said[-20:], line.rstrip()]
            found = LOOP.match(line)
            if found:
                return float(found[1])
        raise self._failure()

    def _failure(self) -> Failed:
        code = self._process.wait()
        said = [*self._said, *self._errors.read_text(errors='replace').splitlines()]
        own = [line for line in said if line.startswith('ERROR')]
        last = own or [line for line in said if line.strip()][-1:] or ['no word']
        how = signal.Signals(-code).name if code < 0 else f'exit status {code}'
        return Failed(f'{how}: {last[0]}')

    def _ranks(self) -> list[int]:
        """The processes that compute: those that started no other."""
        parents = dict(_parents())
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return [pid for pid in found if pid not in parents.values()]

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            for pid in self._ranks():
                os.kill(pid, number)

    def _cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self._ranks())


def _limit(stack: int, memory: int) -> None:
    limits = {resource.RLIMIT_STACK: stack, resource.RLIMIT_AS: memory}
    for which, wanted in limits.items():
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            wanted = hard if wanted == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (wanted, hard))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, s."""
    return sum(map(int, _stat(pid)[11:13])) * TICK  # utime, stime


def _stat(pid: int) -> list[str]:
    """What /proc says of a process, from its state on."""
    text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')
    return text.rpartition(')')[2].split()


def _parents() -> Iterator[tuple[int, int]]:
    """(process, its parent) of everything that runs here."""
    for path in Path('/proc').iterdir():
        if path.name.isdigit():
            try:
                yield int(path.name), int(_stat(int(path.name))[1])
            except OSError:
                continue  # it has just ended
