"""A pytest plugin: run tests of SevenNet, or of yours, with sevennet_mf registered.

::

    python -m pytest -p sevennet_mf.testing SevenNet/tests/unit_tests

It registers before any test is imported, and leaves the host as it was at the end.
"""

from __future__ import annotations

from sevennet_mf import register, unregister


def pytest_configure() -> None:
    """Wrap the host; raises HostError if its version does not fit."""
    register()


def pytest_report_header() -> str:
    """Say in the output of the run what was tested."""
    return 'sevennet_mf: registered'


def pytest_unconfigure() -> None:
    """Put the host's own objects back; raises HostError if somebody wrapped ours."""
    unregister()
