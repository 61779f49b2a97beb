"""The pytest plugin: registered before the first import, and not afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

from commandline import run

TEST = """
from sevennet_mf import host

WHEN_IMPORTED = host.is_registered()


def test_it():
    assert WHEN_IMPORTED
    assert host.is_registered()
"""
CODE = """
import sys, pytest
from sevennet_mf import host
code = pytest.main(sys.argv[1:])
sys.exit(code or 10 * host.is_registered())
"""


def test_registered_while_tests_run(tmp_path: Path) -> None:
    (tmp_path / 'test_it.py').write_text(TEST)
    command = [sys.executable, '-c', CODE, '-p', 'no:cacheprovider', 'test_it.py']
    result = run('-p', 'sevennet_mf.testing', command=command, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'sevennet_mf: registered' in result.stdout
    assert run(command=command, cwd=tmp_path).returncode == 1  # without us
