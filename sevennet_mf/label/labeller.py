"""One process that labels: a calculator or a model, and a folder for its files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import chdir, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevennet_mf.label.calculators import are_finite, line_of, made, results_of
from sevennet_mf.label.exchange import Outcome, Task, Teacher

if TYPE_CHECKING:
    from sevennet_mf.calculators.evaluator import Evaluator


class Labeller:
    """Labels structures in this process.

    Args:
        folder: Where a calculator may write its files; it is made if needed.

    Raises:
        UserError: The calculator or the model cannot be made.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self.teacher, self.folder = teacher, folder
        self._calculator: Any = None
        self._evaluator: Evaluator | None = None
        if teacher.is_calculator:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._calculator = self._made()
        else:
            self._evaluator = _evaluator(teacher)

    def close(self) -> None:
        """Give the model back, and remove the folder if nothing is in it."""
        if self._evaluator is not None:
            self._evaluator.runner.close()
        remove_if_empty(self.folder)

    def _made(self) -> Any:
        return made(self.teacher.told, self.teacher.arguments, self.folder)

    def __call__(self, task: Task) -> Outcome:
        """Label a structure; a failure is one line in the place of results."""
        started = time.monotonic()
        found: dict[str, Mapping[str, Any] | str]
        try:
            found = {**self._results(task)}
        except Exception as error:  # of somebody's calculator
            found = dict.fromkeys(task.names, line_of(error))
            self._calculator = None  # whatever state it is in: the next is a new one
        return Outcome(task, found, time.monotonic() - started)

    def _results(self, task: Task) -> dict[str, Mapping[str, Any]]:
        """By fidelity what ASE's calculators call their results."""
        if self._evaluator is not None:
            theirs = {name: self.teacher.names[name] for name in task.names}
            wanted = list(dict.fromkeys(theirs.values()))
            found = self._evaluator.evaluate(task.atoms, wanted)
            return {name: found[own] for name, own in theirs.items()}
        if self._calculator is None:
            self._calculator = self._made()
        with chdir(self.folder):
            results = results_of(self._calculator, task.atoms)
        if not are_finite(results):  # a failure, as whoever keeps them will find
            self._calculator = None
        return dict.fromkeys(task.names, results)


def _evaluator(teacher: Teacher) -> Evaluator:
    # not above: a calculator without torch begins seconds earlier
    from sevennet_mf.calculators.evaluator import Evaluator
    from sevennet_mf.model.load import load_model

    options = dict(teacher.arguments)
    device = options.pop('device', 'auto')
    loaded = load_model(teacher.told, trust=teacher.trust, **options)
    return Evaluator(loaded, device)


def folder_of(output: str | os.PathLike[str], number: int) -> Path:
    """Return the folder of a process, for the files of its calculator."""
    return Path(output).absolute() / 'work' / str(number)


def remove_if_empty(folder: Path) -> None:
    """Remove such a folder, and the one of all of them, if nothing is in it."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
