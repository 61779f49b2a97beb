"""What the program sets for its own process, and how it says why it failed."""

import gc
import os
import platform
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevennet_mf.program import CHOICES, MANY, importing, why_it_failed

# pages that are new to the process when 32 MB are taken and freed ten times
TEN_TIMES = """
import resource
from sevennet_mf.program import keep_freed_memory
kept = {call}
bytearray(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(2**25)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ON_GLIBC = platform.libc_ver()[0] == 'glibc'


def ten_times(call: str, **environment: str) -> tuple[str, int]:
    """(what the call said, pages) of a fresh process."""
    own = {k: v for k, v in os.environ.items() if k not in CHOICES}
    run = subprocess.run(
        [sys.executable, '-c', TEN_TIMES.format(call=call)],
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    said, pages = run.stdout.split()
    return said, int(pages)


@pytest.mark.skipif(not ON_GLIBC, reason='a setting of glibc')
def test_freed_memory_is_kept_unless_the_user_chose() -> None:
    size = 2**25 // os.sysconf('SC_PAGE_SIZE')
    said, pages = ten_times('keep_freed_memory()')
    assert said == 'True'
    assert pages < size
    assert ten_times('None')[1] > 5 * size  # there was something to keep
    for name in CHOICES:
        choice = 'glibc.malloc.check=0' if name == 'GLIBC_TUNABLES' else '131072'
        said, pages = ten_times('keep_freed_memory()', **{name: choice})
        assert (said, pages > 5 * size) == ('False', True)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """sys.modules, from which what a test adds is gone afterwards."""
    monkeypatch.setattr(sys, 'modules', dict(sys.modules))
    yield sys.modules
    gc.unfreeze()


@pytest.mark.parametrize('number', [1, MANY])
def test_imports_are_not_searched_for_garbage(modules: dict, number: int) -> None:
    gc.unfreeze()
    with importing():
        assert not gc.isenabled()
        for i in range(number):
            modules[f'made_up_{i}'] = types.ModuleType(f'made_up_{i}')
    assert gc.isenabled()
    # only where there were many: garbage of today would stay for ever, too
    assert bool(gc.get_freeze_count()) is (number == MANY)


def test_garbage_is_collected_again_after_an_error() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()
    gc.enable()


@pytest.mark.parametrize(
    ('code', 'text', 'why'),
    [
        (2, '{"message": "no such file: a"}', 'no such file: a'),
        (3, None, 'the process ended with exit code 3'),
        (3, '{"mess', 'the process ended with exit code 3'),
        (-9, None, 'the process ended by SIGKILL (out of memory?)'),
        # of something before it
        (-15, '{"message": "no such file: a"}', 'the process ended by SIGTERM'),
    ],
)
def test_why_a_process_failed(
    code: int, text: str | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / 'failed.json'
    if text is not None:
        path.write_text(text)
    assert why_it_failed(code, path) == why
