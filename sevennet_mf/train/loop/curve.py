"""Every metric of every fidelity of every set: lc.csv and the log, per epoch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from sevenn.logger import Logger
from sevenn.util import unique_filepath

from sevennet_mf.errors import UserError
from sevennet_mf.files import unwritable, write_text

Values = dict[str, dict[str, dict[str, float]]]  # set, fidelity, metric


class LearningCurve:
    """The CSV file that gets a line per epoch; only if `active`.

    Args:
        further: columns that do not belong to a set, after all others.
    """

    def __init__(
        self,
        folder: str,
        sets: dict[str, list[str]],
        metrics: list[str],
        active: bool,
        further: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.active = active
        self.path = ''
        self.further = list(further)
        self.columns = [
            (name, fidelity, metric)
            for name, fidelities in sets.items()
            for fidelity in fidelities
            for metric in metrics
        ]

    def create(self) -> str:
        """Start a new file, next to older ones; return its name."""
        self.path = unique_filepath(os.path.join(self.folder, 'lc.csv'))
        if self.active:
            head = ['epoch', 'lr', *('_'.join(column) for column in self.columns)]
            self._write([','.join([*head, *self.further])], 'w')
        return os.path.basename(self.path)

    def reopen(self, name: str, before_epoch: int) -> None:
        """Continue a file; lines of epochs that will be done again are removed."""
        self.path = os.path.join(self.folder, name)
        if not self.active:
            return
        if not os.path.isfile(self.path) or not os.path.getsize(self.path):
            raise UserError(
                f'--resume: {self.path} is missing; it contains the earlier epochs.'
            )
        with open(self.path, encoding='utf-8') as stream:
            head, *lines = stream.read().splitlines()
        kept = [line for line in lines if self._is_before(line, before_epoch)]
        text = '\n'.join([head, *kept]) + '\n'
        write_text(self.path, text)

    def _is_before(self, line: str, epoch: int) -> bool:
        cells, whole = line.split(','), 2 + len(self.columns) + len(self.further)
        if len(cells) != whole:  # cut short when the run ended
            return False
        return int(cells[0]) < epoch

    def append(
        self,
        epoch: int,
        lr: float,
        values: Values,
        further: Mapping[str, float] | None = None,
    ) -> None:
        """Add an epoch's line, in the host's format."""
        if self.active:
            numbers = [values[s][f][m] for s, f, m in self.columns]
            numbers += [(further or {})[name] for name in self.further]
            # the host's format would pad `nan` with blanks
            cells = [f'{lr:8f}', *(f'{number:6f}'.strip() for number in numbers)]
            self._write([','.join([str(epoch), *cells])], 'a')

    def _write(self, lines: list[str], mode: str) -> None:
        try:
            with open(self.path, mode, encoding='utf-8') as stream:
                stream.write('\n'.join(lines) + '\n')
        except OSError as error:
            raise unwritable(self.path, error) from None


def write_log(head: str, values: Values) -> None:
    """Write the metrics of an epoch into the host's log, as a table."""
    log = Logger()
    log.bar()
    log.writeline(head)
    log.bar()
    rows = {
        f'{name}_{fidelity}': metrics
        for name, by_fidelity in values.items()
        for fidelity, metrics in by_fidelity.items()
    }
    log.write_full_table(list(rows.values()), list(rows))
