"""Which run of a study may start next, and the states of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType

from sevennet_mf.files import read_json
from sevennet_mf.study import status
from sevennet_mf.study.status import AnyRun, Status

# called with the status of every run, by name, whenever one has changed
OnChange = Callable[[Mapping[str, Status]], None]


class Schedule:
    """The runs of a study with their states; those done before stay done.

    Args:
        runs: In the order of the plan, including all that they need.
        on_change: Called with the status of every run whenever one has changed.
    """

    def __init__(self, runs: Sequence[AnyRun], on_change: OnChange | None = None):
        self.runs = {run.name: run for run in runs}
        assert len(self.runs) == len(runs), 'two runs have one name'
        self.on_change = on_change
        found = {run.name: status.read(run) for run in runs}
        # whatever happened to an earlier attempt, it is tried again
        self.states = {
            name: s if s.state == 'done' else Status('waiting', s.fraction)
            for name, s in found.items()
        }
        self.urgency = self._urgencies()
        self._notify()

    @property
    def over(self) -> bool:
        return all(s.ended for s in self.states.values())

    def count(self, *wanted: status.State) -> int:
        """Return how many runs are in one of these states."""
        return sum(s.state in wanted for s in self.states.values())

    def set(self, name: str, now: Status) -> None:
        """Set the state of a run; runs that need a failed one are blocked."""
        if self.states[name] != now:
            self.states[name] = now
            if now.state == 'failed':
                status.block(self.runs, self.states)
            self._notify()

    def fail(self, name: str, message: str) -> None:
        self.set(name, replace(self.states[name], state='failed', message=message))

    def waiting(self, met: Iterable[str] = ()) -> list[AnyRun]:
        """Return the runs that may start, the most urgent first.

        Args:
            met: Names of runs that count as done although they are not yet.
        """
        there = {n for n, s in self.states.items() if s.state == 'done'}
        there |= set(met)
        able = [
            run
            for name, run in self.runs.items()
            if self.states[name].state == 'waiting' and there.issuperset(run.needs)
        ]
        return sorted(able, key=lambda run: -self.urgency[run.name])

    def _urgencies(self) -> dict[str, int]:
        """Optimiser steps of each run plus the longest chain that needs it."""

        @cache
        def steps(name: str) -> int:
            said = read_json(self.runs[name].folder / status.RUN_FILE)
            own = sum(stage.get('steps') or 0 for stage in said.get('stages', []))
            after = (n for n, run in self.runs.items() if name in run.needs)
            return own + max(map(steps, after), default=0)

        return {name: steps(name) for name in self.runs}

    def _notify(self) -> None:
        if self.on_change is not None:
            self.on_change(MappingProxyType(self.states))
