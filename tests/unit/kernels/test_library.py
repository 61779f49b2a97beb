"""The compiled kernel: used, turned off, absent, damaged or of another version."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevennet_mf.errors import UserError
from sevennet_mf.kernels import library

pytestmark = pytest.mark.skipif(
    library.path() is None, reason='the kernel was not compiled here'
)


OFF = 'it is turned off (--e3nn or SEVENNET_MF_FUSED)'


@pytest.fixture(autouse=True)
def _loaded_anew() -> Iterator[None]:
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch):
    """Look for the library in another place."""
    return lambda file: monkeypatch.setattr(library, 'path', lambda: file)


def test_it_is_used_where_it_was_compiled() -> None:
    assert library.why_not() is None
    assert library.instruction_set() in ('plain', 'avx2', 'avx512')


@pytest.mark.parametrize('value', ['0', 'off', 'False', ' no '])
def test_a_variable_turns_it_off(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(library.SWITCH, value)
    assert library.why_not() == OFF


def test_a_value_without_meaning_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(library.SWITCH, 'perhaps')
    with pytest.raises(UserError, match="must be on, off or always, got 'perhaps'"):
        library.why_not()


def test_without_it_the_reason_is_told(at) -> None:
    at(None)
    assert 'not compiled when sevennet_mf was installed' in str(library.why_not())


def test_a_damaged_library_says_how_to_mend_it(at, tmp_path: Path) -> None:
    file = tmp_path / '_convolution.so'
    file.write_bytes(b'no library')
    at(file)
    with pytest.raises(UserError, match=r'cannot be used.*Install sevennet_mf'):
        library.why_not()


def test_a_library_of_another_version_is_refused(at, tmp_path: Path) -> None:
    source, file = tmp_path / 'other.c', tmp_path / '_convolution.so'
    source.write_text('int sevennet_mf_version(void) { return 99; }\n')
    subprocess.run(['cc', '-shared', '-fPIC', source, '-o', file], check=True)
    at(file)
    with pytest.raises(UserError, match='has version 99, but this sevennet_mf'):
        library.why_not()


def test_an_unknown_instruction_set_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(library.INSTRUCTION_SET, 'sse9')
    with pytest.raises(UserError, match="must be plain, avx2 or avx512.*'sse9'"):
        library.why_not()


def test_an_instruction_set_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(library.INSTRUCTION_SET, 'plain')
    assert library.instruction_set() == 'plain'
    library.library().sevennet_mf_choose(None)
