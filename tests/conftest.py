"""What every test gets: one thread, no display, a plain host, the real data."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# before torch or matplotlib is imported, and inherited by subprocesses
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MKL_NUM_THREADS'] = '1'
os.environ['MPLBACKEND'] = 'Agg'

DATA = Path(__file__).parent / 'data'


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported for tests stays: the collector of garbage ignores it."""
    from sevennet_mf.program import importing

    with importing():
        return (yield)


@pytest.fixture(scope='module', autouse=True)
def _plain_host() -> Iterator[None]:
    """Loading a model registers the plugin; the next file must not notice."""
    from sevennet_mf import host

    before = host.is_registered()
    yield
    if host.is_registered() and not before:
        host.unregister()


@pytest.fixture(scope='session', autouse=True)
def _kept_code() -> Iterator[None]:
    """Models are built and scripted in a fraction of the time."""
    import kept_code

    with pytest.MonkeyPatch.context() as patch:
        kept_code.keep(patch)
        yield


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """The folder of the real data; its README says how each file was made."""
    return DATA


@pytest.fixture(scope='session')
def ingan() -> Path:
    """In(x)Ga(1-x)N with PBE and r2SCAN labels."""
    return DATA / 'ingan'


@pytest.fixture(scope='session')
def former_graphs() -> Path:
    """Three structures, and a folder of version 0.1.0 with their graphs."""
    return DATA / 'former_graphs'


@pytest.fixture(scope='session')
def molecules() -> Path:
    """Small molecules with PBE and energy-only CCSD(T) labels."""
    return DATA / 'molecules'


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> 'list[Figure]':
    """The figures that are saved while a test runs, each once."""
    from sevennet_mf import drawing

    kept: list[Figure] = []
    save = drawing.save

    def keep(figure: 'Figure', *where: str) -> None:
        save(figure, *where)
        if not any(figure is other for other in kept):
            kept.append(figure)

    monkeypatch.setattr(drawing, 'save', keep)
    return kept
