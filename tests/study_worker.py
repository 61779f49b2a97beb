"""A worker that does no training, but what run.json says under 'does'.

It notes in OUT/events what it did when.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 120.0  # s


def main(folder: Path) -> None:
    """Do as the run says: ends, meets, waits, fails, crashes, dies or forgets."""
    described = json.loads((folder / 'run.json').read_text(encoding='utf-8'))
    does, name = described['does'], described['name']
    events = folder.parents[len(Path(name).parts)] / 'events'

    def note(what: str) -> None:
        with events.open('a', encoding='utf-8') as stream:
            stream.write(f'{what} {name}\n')

    def stop(number: int, frame: Any) -> None:
        note('stopped')
        (folder / 'checkpoint').touch()  # something that can be gone on from
        fail(folder, 'stopped by SIGTERM')

    signal.signal(signal.SIGTERM, stop)
    environment = json.dumps(dict(os.environ))
    (folder / 'environment.json').write_text(environment, encoding='utf-8')
    sys.stdout.write(f'hello from {name}\n')
    if does == 'waits':
        epochs(folder / 'stage', 1)
    note('began')
    if does == 'meets':  # goes on when another is there at the same time
        until(lambda: events.read_text(encoding='utf-8').count('began') > 1)
    elif does == 'waits' and not (folder / 'checkpoint').exists():
        until(lambda: False)
    elif does == 'fails':
        fail(folder, 'no data')
    elif does == 'crashes':
        sys.stderr.write('what a pity\n')
        sys.exit(3)
    elif does == 'dies':
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if does != 'forgets':
        errors = {'energy': {'mae': 12.34}, 'force': {'mae': 80.0}}
        result = json.dumps({'errors': errors})
        (folder / 'result.json').write_text(result, encoding='utf-8')
    note('ended')


def epochs(stage: Path, number: int) -> None:
    """Write the learning curve of so many epochs."""
    stage.mkdir(exist_ok=True)
    text = 'epoch,lr\n' + '1,0.1\n' * number
    (stage / 'lc.csv').write_text(text, encoding='utf-8')


def fail(folder: Path, message: str) -> None:
    """End as a worker that says why."""
    said = json.dumps({'message': message, 'stage': 'train'})
    (folder / 'failed.json').write_text(said, encoding='utf-8')
    sys.exit(1)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true() and time.monotonic() < end:
        time.sleep(0.01)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
