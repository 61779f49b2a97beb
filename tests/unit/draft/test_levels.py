"""Which level of theory a file is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import published
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


# ---- files for MACE


def of_mace(name: str, heads: Sequence[str], isolated: bool = True) -> str:
    frames = published.crystals(len(heads))
    atoms = {'N': -3.1} if isolated else {}
    return str(published.mace(Path(name), frames, atoms, heads))


def test_heads_of_a_file_for_mace_are_levels() -> None:
    file = of_mace('both.xyz', ['pbe', 'r2scan', 'pbe'])
    both = {'format': 'mace'}
    assert levels_of([file]) == [
        Level('pbe', ('both.xyz',), both),
        Level('r2scan', ('both.xyz',), both),
    ]
    assert levels_of([of_mace('a.xyz', ['hse'])]) == [Level('hse', ('a.xyz',), both)]
    assert levels_of(['hse06=a.xyz']) == [Level('hse06', ('a.xyz',), both)]


def test_isolated_atoms_are_for_references_and_no_level() -> None:
    """Read as plain extended XYZ they would be trained on."""
    frames = published.crystals(2)
    published.mace(Path('pbe_all.xyz'), frames, {'N': -3.1, 'Ga': -0.3})
    assert levels_of(['pbe_all.xyz'])[0].keys == {'format': 'mace'}
    published.mace(Path('pbe_plain.xyz'), frames)
    assert levels_of(['pbe_plain.xyz'])[0].keys == {}


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['pbe=both.xyz'], r"heads \['pbe', 'r2scan'\], each of which is a level"),
        (['both.xyz', 'r2scan=one.xyz'], 'both.xyz has several levels'),
        (['both.xyz', 'GaN-r2SCAN.xyz'], "both have the level 'r2scan'"),
    ],
)
def test_several_heads_in_doubt(arguments: list[str], words: str) -> None:
    of_mace('both.xyz', ['pbe', 'r2scan'])
    of_mace('one.xyz', ['r2scan'])
    with pytest.raises(UserError, match=words):
        levels_of(arguments)
