"""`sevennet-mf` that waits in EPOCH, at its first checkpoint there, for a signal.

    python waiting_train.py EPOCH train input.yaml ...

So a test interrupts it where it means to, however slowly either of them runs.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from sevennet_mf import cli
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.train.loop.fit import Fit

LIMIT = 300.0  # s


def main(epoch: int, arguments: list[str]) -> int:
    """Exit code of the command line."""
    handle, write = StopRequest._handle, Fit.write_resumable
    caught: list[int] = []

    def note(self: StopRequest, number: int, frame: Any) -> None:
        caught.append(number)
        handle(self, number, frame)

    def write_and_wait(self: Fit, in_epoch: bool) -> None:
        write(self, in_epoch)
        if (in_epoch, self.state.epoch, self.process.rank) == (True, epoch, 0):
            deadline = time.monotonic() + LIMIT
            while not caught and time.monotonic() < deadline:
                time.sleep(0.02)

    StopRequest._handle = note  # type: ignore[method-assign]
    Fit.write_resumable = write_and_wait  # type: ignore[method-assign]
    return cli.main(arguments)


if __name__ == '__main__':
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
