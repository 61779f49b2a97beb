"""A study of runs that do no training."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

WORKER = Path(__file__).with_name('study_worker.py')


@dataclass(frozen=True)
class StubRun:
    """A run as `execute` needs it."""

    name: str
    folder: Path
    needs: tuple[str, ...]
    row: str
    labels: int
    seed: int


@dataclass(frozen=True)
class Options:
    """The `run` block of study.yaml."""

    parallel: int | Literal['auto'] = 2
    threads: int = 1
    slurm: dict[str, Any] | None = None


class Study:
    """A folder with runs, and the command that does one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.command = (sys.executable, str(WORKER))
        self.runs: list[StubRun] = []

    def add(
        self,
        name: str,
        does: str = 'ends',
        needs: Sequence[str] = (),
        steps: int = 10,
    ) -> StubRun:
        """Write the folder of a run, as a study would."""
        folder = self.folder / 'runs' / name
        folder.mkdir(parents=True, exist_ok=True)
        row, _, rest = name.partition('/')
        stages = [{'folder': 'stage', 'epochs': 4, 'steps': steps}]
        described = {'name': name, 'does': does, 'stages': stages}
        (folder / 'run.json').write_text(json.dumps(described), encoding='utf-8')
        seed = int(rest.rpartition('seed')[2] or 1)
        run = StubRun(name, folder, tuple(needs), row, 8, seed)
        self.runs = [r for r in self.runs if r.name != name] + [run]
        return run

    def events(self, what: str = '') -> list[str]:
        """What the workers noted, in order: 'began low/seed1', ..."""
        path = self.folder / 'events'
        text = path.read_text(encoding='utf-8') if path.exists() else ''
        return [line for line in text.splitlines() if line.startswith(what)]
