"""Which level of theory a file is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from sevennet_mf.draft.levels import Level, levels_of
from sevennet_mf.errors import UserError


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ('pbe_train.extxyz', 'GaN-r2SCAN.xyz', 'all.xyz', 'pbe=2.xyz'):
        (tmp_path / name).touch()


def test_the_name_of_a_file_tells_its_level() -> None:
    assert levels_of(['pbe_train.extxyz', 'GaN-r2SCAN.xyz']) == [
        Level('pbe', ('pbe_train.extxyz',)),
        Level('r2scan', ('GaN-r2SCAN.xyz',)),
    ]


def test_a_name_may_be_given_and_files_of_one_level_belong_together() -> None:
    found = levels_of(['PBE=pbe_train.extxyz', 'best=all.xyz', 'PBE=all.xyz'])
    assert found == [
        Level('PBE', ('pbe_train.extxyz', 'all.xyz')),
        Level('best', ('all.xyz',)),
    ]
    # a file that is called so
    assert levels_of(['pbe=2.xyz']) == [Level('pbe', ('pbe=2.xyz',))]


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('all.xyz', 'cannot be read .* Write it as NAME=FILE, such as pbe=all.xyz'),
        ('alpbe.xyz', 'cannot be read from the file name'),
        ('pbe_tain.extxyz', "no such file: .* Did you mean 'pbe_train.extxyz'"),
        ('a b=all.xyz', 'a fidelity name is a quoted word'),
        ('total=all.xyz', "'total' is reserved"),
    ],
)
def test_what_cannot_be_meant_is_one_line(argument: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        levels_of([argument])
    assert '\n' not in str(raised.value)
