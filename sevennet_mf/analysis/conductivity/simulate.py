"""All simulations of a command: one after another, or several processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ase import Atoms
from tqdm import tqdm

from sevennet_mf.analysis.conductivity import md_ase, md_lammps
from sevennet_mf.analysis.conductivity.guard import FlewApart, Guard
from sevennet_mf.analysis.conductivity.md import (
    LAMMPS,
    Model,
    Protocol,
    prepare_folder,
)
from sevennet_mf.calculators.fidelity import FidelityCalculator
from sevennet_mf.deploy.folded import prepare
from sevennet_mf.deploy.torchscript import deploy_folded
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.files import make_folder, read_json, write_json
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.lock import held
from sevennet_mf.program import bound, threads, why_it_failed

PROGRESS_FILE: Final[str] = 'progress.json'
FAILURE_FILE: Final[str] = 'failed.json'
DEPLOYED_FILE: Final[str] = 'model.pt'
LOCK_FILE: Final[str] = '.lock'
LOOK: Final[float] = 0.5  # s between looks at processes
TELL: Final[float] = 5.0  # s between writings of the progress
COMMAND: Final = (sys.executable, '-m', 'sevennet_mf.cli', 'conductivity')


@dataclass(frozen=True, eq=False)
class Simulations:
    """What to simulate.

    Attributes:
        out: Folder with a folder for each temperature.
        atoms: The structure.
        model: What with.
        protocols: One for each temperature.
        resume: Continue what is in the folders.
    """

    out: Path
    atoms: Atoms
    model: Model
    protocols: Sequence[Protocol]
    resume: bool

    def folder(self, temperature: float) -> Path:
        """Return the folder of a temperature."""
        return self.out / f'{temperature:g}K'

    def trajectory(self, protocol: Protocol) -> Path:
        """Return the file that a simulation writes."""
        of = md_lammps if protocol.engine == LAMMPS else md_ase
        return self.folder(protocol.temperature) / of.TRAJECTORY_FILE

    @property
    def steps(self) -> int:
        """Of all simulations."""
        return sum(protocol.steps for protocol in self.protocols)


def simulate(
    what: Simulations, parallel: int, words: Sequence[str]
) -> dict[float, str]:
    """Do all simulations; one that flies apart does not stop the others.

    Args:
        what: The simulations.
        parallel: How many at the same time.
        words: The arguments of the command line, without temperatures.

    Returns:
        By temperature, why a simulation failed.

    Raises:
        TrainingStopped: After SIGTERM or Ctrl-C; --resume continues.
        UserError: Something cannot be used.
    """
    make_folder(what.out, 'Choose another folder with -o.', to_write=True)
    for protocol in what.protocols:
        trajectory = what.trajectory(protocol)
        prepare_folder(trajectory, what.atoms, protocol, what.model, what.resume)
    calculator = None
    if any(protocol.engine == LAMMPS for protocol in what.protocols):
        _deploy(what)
    else:
        calculator = _calculator(what.model)
    if parallel > 1 and len(what.protocols) > 1:
        return _in_processes(what, parallel, words)
    failures = {}
    with (
        StopRequest().listening() as stop,
        tqdm(total=what.steps, unit=' steps', desc='MD', disable=None) as bar,
    ):
        for protocol in what.protocols:
            begun = bar.n
            try:
                simulate_one(what, protocol, stop, bar, calculator)
            except FlewApart as error:
                failures[protocol.temperature] = str(error)
            bar.update(begun + protocol.steps - bar.n)
    return failures


def simulate_one(
    what: Simulations,
    protocol: Protocol,
    stop: StopRequest,
    bar: Any = None,
    calculator: FidelityCalculator | None = None,
) -> None:
    """Do one simulation, in this process.

    Raises:
        FlewApart: The model did.
        TrainingStopped: `stop` was set.
    """
    folder = what.folder(protocol.temperature)
    guard = Guard(folder, protocol.temperature, what.model.name)
    progress = Progress(folder, protocol, stop, bar)
    with held(folder / LOCK_FILE, f'simulates in {folder}; wait for it.'):
        if protocol.engine == LAMMPS:
            deployed = what.out / DEPLOYED_FILE
            md_lammps.run_lammps_md(
                what.atoms, protocol, deployed, guard, progress.told
            )
        else:
            own = calculator or _calculator(what.model)
            md_ase.run_ase(what.atoms, protocol, own, guard, progress.told)


def _calculator(model: Model) -> FidelityCalculator:
    return FidelityCalculator(model.checkpoint, model.fidelity, device=model.device)


def _deploy(what: Simulations) -> None:
    folded = prepare(what.model.checkpoint, what.model.fidelity, None)
    deploy_folded(folded, str(what.out / DEPLOYED_FILE), parallel=False)


class Progress:
    """Tells how far a simulation is, and stops it between frames."""

    def __init__(
        self, folder: Path, protocol: Protocol, stop: StopRequest, bar: Any
    ) -> None:
        self.folder, self.protocol, self.stop, self.bar = folder, protocol, stop, bar
        self.first: tuple[int, float] | None = None  # step and time of the start
        self.step, self.written = 0, 0.0

    def told(self, step: int) -> None:
        """Take note of a step that is done.

        Raises:
            TrainingStopped: After a signal.
        """
        now = time.monotonic()
        if self.first is None:
            self.first = (step, now)
        if self.bar is not None:
            self.bar.update(step - self.step)
        self.step = step
        is_over = step >= self.protocol.steps
        if is_over or self.stop or now - self.written > TELL:
            self.written = now
            self._write(step, now)
        if self.stop and not is_over:
            raise TrainingStopped(
                f'stopped by {self.stop.name} at {self.protocol.temperature:g} K '
                f'after {self.protocol.time(step):g} ps; the same command with '
                '--resume continues.'
            )

    def _write(self, step: int, now: float) -> None:
        assert self.first is not None
        done, seconds = step - self.first[0], now - self.first[1]
        left = (self.protocol.steps - step) * seconds / done if done else None
        content = {
            'step': step,
            'steps': self.protocol.steps,
            'ps': self.protocol.time(step),
            'seconds_per_step': seconds / done if done else None,
            'seconds_left': left,
        }
        write_json(self.folder / PROGRESS_FILE, content)


# ---- several processes


def _in_processes(
    what: Simulations, parallel: int, words: Sequence[str]
) -> dict[float, str]:
    """A process of this command for each temperature, `parallel` at a time."""
    waiting = [protocol.temperature for protocol in what.protocols]
    running: dict[float, subprocess.Popen[bytes]] = {}
    failures: dict[float, str] = {}
    share = _share(min(parallel, len(waiting)))
    with (
        StopRequest().listening() as stop,
        ExitStack() as stack,
        tqdm(total=what.steps, unit=' steps', desc='MD', disable=None) as bar,
    ):
        while waiting or running:
            while waiting and len(running) < parallel:
                temperature = waiting.pop(0)
                folder = what.folder(temperature)
                process = _start(folder, temperature, words, share)
                stack.callback(process.wait)
                stack.callback(process.terminate)  # before it is waited for
                running[temperature] = process
            time.sleep(LOOK)
            bar.update(sum(map(_done, map(what.folder, _all(what)))) - bar.n)
            for temperature, process in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[temperature]
                    if code:
                        file = what.folder(temperature) / FAILURE_FILE
                        failures[temperature] = why_it_failed(code, file)
            if stop:
                raise TrainingStopped(
                    f'stopped by {stop.name}; the same command with --resume '
                    'continues.'
                )
    return failures


def _all(what: Simulations) -> list[float]:
    return [protocol.temperature for protocol in what.protocols]


def _done(folder: Path) -> int:
    return int(read_json(folder / PROGRESS_FILE).get('step', 0))


def _share(parallel: int) -> dict[str, str]:
    """The threads of each process in its environment, unless the user set them."""
    if 'OMP_NUM_THREADS' in os.environ:
        return {}
    return threads(max(1, len(os.sched_getaffinity(0)) // parallel))


def _start(
    folder: Path, temperature: float, words: Sequence[str], share: dict[str, str]
) -> subprocess.Popen[bytes]:
    failure = folder / FAILURE_FILE
    failure.unlink(missing_ok=True)
    command = [*COMMAND, *words, '--temperatures', f'{temperature!r}', '--only_run']
    try:
        with (folder / 'messages.txt').open('ab') as messages:
            return subprocess.Popen(
                bound([*command, '--failure', str(failure)]),
                env={**os.environ, **share},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )
    except OSError as error:
        raise UserError(f'no process can be started: {error.strerror}.') from None
