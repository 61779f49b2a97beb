"""A running study: a live table, or a line for each run that ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sevennet_mf.study.status import AnyRun, State, Status

# hours of training: the time left follows from the last hour, not the last minute
MEMORY = 3600.0  # s
STYLES: dict[State, str] = {
    'waiting': 'dim',
    'running': 'cyan',
    'done': 'green',
    'failed': 'bold red',
    'blocked': 'red',
    'interrupted': 'yellow',
}
CAPTION = 'done: MAE of energy (meV/atom) / force (meV/Å) on the test set'


class Display:
    """Context manager that shows the states of runs; `update` is for `execute`.

    On a terminal it shows the time left, and a table with a line per row and number
    of labels and a cell per seed. Elsewhere it prints a line for each run that
    ended.
    """

    def __init__(
        self, runs: Sequence[AnyRun], console: Console | None = None
    ) -> None:
        self.runs = list(runs)
        self.console = console or Console()
        self.states: dict[str, Status] = {}
        self.began: dict[str, float] = {}  # when this call saw a run start
        self.progress = Progress(
            TextColumn('runs'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.percentage:.0f} %'),
            TimeElapsedColumn(),
            TextColumn('left:'),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=MEMORY,
        )
        self.overall = self.progress.add_task('', total=len(self.runs))
        self.live = Live(
            console=self.console,
            get_renderable=self.render,
            refresh_per_second=2,
            transient=False,
        )

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def update(self, states: Mapping[str, Status]) -> None:
        """Show the states, given by the names of the runs."""
        before, self.states = self.states, dict(states)
        for name, now in states.items():
            if now.state == 'running':
                self.began.setdefault(name, time.monotonic())
            # runs that ended before this call are only counted
            if before and now.ended and not before[name].ended:
                self._tell(name, now)
            elif before and now.message and now.message != before[name].message:
                self._write(f'{name}: {now.message}')  # the job it has
        if not before:
            self._write(f'{self._ended()} of {len(states)} runs are already done')
        done = sum(1.0 if s.ended else s.fraction for s in states.values())
        # the first step, with what was done before, does not count for the speed
        self.progress.update(self.overall, completed=done)

    def _ended(self) -> int:
        return sum(s.ended for s in self.states.values())

    def _tell(self, name: str, now: Status) -> None:
        minutes = ''
        if name in self.began and now.state != 'blocked':
            seconds = time.monotonic() - self.began[name]
            minutes = f' ({seconds / 60:.1f} min)'
        count = f'[{self._ended()}/{len(self.states)}]'
        self._write(f'{count} {name}: {sentence(now)}{minutes}')

    def _write(self, line: str) -> None:
        if self.console.is_terminal:  # the table says it
            return
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """Return what a terminal shows: progress, table, and failures."""
        wrong = [
            Text(f'{name}: {s.state}: {s.message}', style=STYLES[s.state])
            for name, s in self.states.items()
            if s.state in ('failed', 'blocked')
        ]
        return Group(self.progress, table(self.runs, self.states), *wrong)


def table(runs: Sequence[AnyRun], states: Mapping[str, Status]) -> Table:
    """Return a line per row and number of labels, with a cell per seed."""
    seeds = sorted({run.seed for run in runs})
    shown = Table(caption=CAPTION, caption_justify='left')
    shown.add_column('runs')
    shown.add_column('labels', justify='right')
    for seed in seeds:
        shown.add_column(f'seed {seed}', justify='right', no_wrap=True)
    lines: dict[tuple[str, int], dict[int, AnyRun]] = {}
    for run in runs:
        lines.setdefault((run.row, run.labels), {})[run.seed] = run
    for (row, labels), by_seed in lines.items():
        cells = [
            cell(states.get(by_seed[seed].name)) if seed in by_seed else Text('')
            for seed in seeds
        ]
        shown.add_row(row, str(labels or ''), *cells)  # low: no target labels
    return shown


def cell(status: Status | None) -> Text:
    """Return the cell of one run."""
    if status is None:
        return Text('')
    if status.state == 'done':
        said = numbers(status)
    elif status.state in ('running', 'interrupted'):
        said = f'{status.state} {100 * status.fraction:.0f} %'
    else:
        said = status.state
    if status.message and not status.ended:  # the job it has
        said = f'{said} ({status.message})'
    return Text(said, style=STYLES[status.state])


def numbers(status: Status) -> str:
    """Return the errors of a finished run, energy / force; 'done' without any."""
    values = (status.energy_mae, status.force_mae)
    if values == (None, None):
        return 'done'
    return ' / '.join('-' if v is None else f'{v:.1f}' for v in values)


def sentence(status: Status) -> str:
    """Return how a run ended, in words."""
    if status.message:
        return f'{status.state}: {status.message}'
    errors = (
        ('energy', status.energy_mae, 'meV/atom'),
        ('force', status.force_mae, 'meV/Å'),
    )
    said = [f'{what} {v:.1f} {unit}' for what, v, unit in errors if v is not None]
    return ', '.join(said) or 'done'
