"""A pytest plugin: run tests of SevenNet, or of yours, with sevennet_mf registered.

::

    python -m pytest -p sevennet_mf.testing SevenNet/tests/unit_tests

It registers before any test is imported, and leaves the host as it was at the end.
"""

from __future__ import annotations

from sevennet_mf import register, unregister


def pytest_configure() -> None:
    """Wrap the host.

    Raises:
        HostError: Its version does not match.
    """
    register()


def pytest_report_header() -> str:
    """Return a line on what was tested, for the output of the run."""
    return 'sevennet_mf: registered'


def pytest_unconfigure() -> None:
    """Put the host's own objects back.

    Raises:
        HostError: Another package has wrapped ours.
    """
    unregister()
