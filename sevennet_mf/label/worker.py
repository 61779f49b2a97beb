"""The process that labels for `sevennet-mf label`.

    python -m sevennet_mf.label.worker FD

It gets its teacher, its folder and then its tasks through an inherited descriptor,
and ends when that is closed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

READY: Final[str] = 'ready'  # the first answer; any other is an error message


def _end(number: int, frame: Any) -> None:
    """End, along with whatever programs the calculator has started."""
    os.killpg(0, signal.SIGKILL)


def main(argv: Sequence[str]) -> int:
    """Answer each task with its outcome, until there is nobody to ask."""
    signal.signal(signal.SIGTERM, _end)
    connection: Connection[Any, Any] = Connection(int(argv[0]))
    teacher, folder = connection.recv()
    from sevennet_mf.errors import UserError
    from sevennet_mf.label.labeller import Labeller

    try:
        labeller = Labeller(teacher, folder)
    except UserError as error:
        connection.send(str(error))
        return 1
    connection.send(READY)
    with suppress(EOFError):
        while True:
            connection.send(labeller(connection.recv()))
    labeller.close()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
