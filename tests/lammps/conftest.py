"""The compiled pair styles, once for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for lammps_helpers

from lammps_helpers import lammps

from sevennet_mf.lammps.build import build
from sevennet_mf.lammps.plugin_path import CACHE_VARIABLE


@pytest.fixture(scope='session')
def plugin(pytestconfig: pytest.Config) -> Path:
    """The plugin: compiled by one worker, which the others wait for.

    It is kept from one run of the tests to the next, until the sources, torch or
    LAMMPS change.
    """
    kept = pytestconfig.rootpath / '.pytest_cache' / 'plugin'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, os.environ.get(CACHE_VARIABLE) or str(kept))
        return build()


@pytest.fixture(scope='session')
def lmp_env(plugin: Path) -> dict[str, str]:
    """The environment to run `lmp` in: it has the pair styles, one thread."""
    return {
        **lammps().environment,
        CACHE_VARIABLE: str(plugin.parents[2]),
        'LAMMPS_PLUGIN_PATH': str(plugin.parent),
        'OMP_NUM_THREADS': '1',
    }
