"""The results of a study so far, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sevennet_mf.study.report import run_results
from sevennet_mf.study.report.axes import Look, looks
from sevennet_mf.study.report.labels_saved import Needed, labels_saved
from sevennet_mf.study.report.run_results import UNITS, RunResult, Table, aggregate

METRIC: Final[str] = 'mae'
CURVES: Final[tuple[str, ...]] = ('energy', 'force')  # for which labels are counted


@dataclass(frozen=True)
class Comparison:
    """The results of a study so far.

    Attributes:
        out: Folder of the study.
        study: Content of study.json.
        runs: All its runs, in the order of tables.
    """

    out: Path
    study: Mapping[str, Any]
    runs: Sequence[RunResult]

    @classmethod
    def of(cls, out: str) -> Comparison:
        """Read the folder of a study.

        Raises:
            UserError: If there are no runs in it.
        """
        return cls(Path(out), run_results.read_study(out), run_results.collect(out))

    @cached_property
    def rows(self) -> list[str]:
        """The rows that are compared, in the order of the study."""
        compared = (r.row for r in self.runs if r.labels)
        return run_results.row_order(compared, self.study)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The errors that are drawn and used for counting labels, by quantity."""
        return self.errors(METRIC)

    @cached_property
    def needed(self) -> dict[str, list[Needed]]:
        """Labels saved, by quantity; a quantity without an answer is absent."""
        found = {q: labels_saved(self.tables.get(q, {}), q) for q in CURVES}
        return {quantity: answers for quantity, answers in found.items() if answers}

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each row is drawn, in the order of the rows."""
        found = looks(self.rows)
        return {row: found[row] for row in self.rows}

    def errors(self, metric: str) -> dict[str, Table]:
        """Return the errors over seeds, for the quantities that have any."""
        found = {q: aggregate(self.runs, q, metric) for q in UNITS}
        return {quantity: table for quantity, table in found.items() if table}


def typical(found: Comparison) -> dict[str, RunResult]:
    """Return for each row the median run of those with the most labels."""
    chosen = {}
    for row in found.rows:
        done = [r for r in found.runs if r.row == row and r.state == 'done']
        done = [r for r in done if r.labels and r.errors]
        most = max((r.labels for r in done), default=0)
        done = sorted((r for r in done if r.labels == most), key=_size)
        if done:
            chosen[row] = done[(len(done) - 1) // 2]
    return chosen


def _size(run: RunResult) -> float:
    errors = [run.error(quantity, METRIC) for quantity in UNITS]
    return next((e for e in errors if e is not None), 0.0)
