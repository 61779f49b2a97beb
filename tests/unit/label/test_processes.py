"""Processes that label do not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from label_helpers import cells, odd

from sevennet_mf.label.exchange import Task
from sevennet_mf.label.processes import LabelProcess

LIMIT = 60.0  # s after which something hangs


def test_a_process_that_ends_takes_the_program_of_its_calculator_along(
    tmp_path: Path,
) -> None:
    """It gets SIGTERM when its parent dies, even by `kill -9`."""
    task = Task('s0', 'x:0', cells(5.0)[0], ('low',))
    worker = LabelProcess(odd(function='Program'), tmp_path / '1', 1, task)
    pid = tmp_path / '1' / 'pid'
    end = time.monotonic() + LIMIT
    while not (pid.is_file() and pid.read_text().endswith('\n')):
        assert time.monotonic() < end, worker.log.read_text()
        time.sleep(0.02)
    program = Path('/proc', pid.read_text().strip(), 'stat')
    assert program.is_file()
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(LIMIT) == -signal.SIGKILL
    while program.is_file() and program.read_text().split(')')[1].split()[0] != 'Z':
        assert time.monotonic() < end
        time.sleep(0.02)
    worker.kill()  # of what is dead already
