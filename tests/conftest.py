"""What every test gets: one thread, no display, a plain host, the real data."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# before torch or matplotlib is imported, and inherited by subprocesses
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MKL_NUM_THREADS'] = '1'
os.environ['MPLBACKEND'] = 'Agg'

DATA = Path(__file__).parent / 'data'


@pytest.fixture(scope='module', autouse=True)
def _plain_host() -> Iterator[None]:
    """Loading a model registers the plugin; the next file must not notice."""
    from sevennet_mf import host

    before = host.is_registered()
    yield
    if host.is_registered() and not before:
        host.unregister()


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """The folder of the real data; its README says how each file was made."""
    return DATA


@pytest.fixture(scope='session')
def ingan() -> Path:
    """In(x)Ga(1-x)N with PBE and r2SCAN labels."""
    return DATA / 'ingan'


@pytest.fixture(scope='session')
def molecules() -> Path:
    """Small molecules with PBE and energy-only CCSD(T) labels."""
    return DATA / 'molecules'
