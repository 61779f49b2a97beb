"""The files of a fidelity: whole records, whatever happens."""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.io
import pytest
from label_helpers import cells

from sevennet_mf.errors import UserError
from sevennet_mf.label.exchange import Teacher
from sevennet_mf.label.labels import labelled
from sevennet_mf.label.store import Store
from sevennet_mf.label.teacher import record_of

RECORD: dict[str, Any] = {'with': 'x:y', 'arguments': {}}


@contextmanager
def opened(folder: Path, **record: Any) -> Iterator[Store]:
    store = Store(folder, 'low', {**RECORD, **record})
    try:
        yield store
    finally:
        store.close()


def add(store: Store, *lengths: float) -> None:
    for length in lengths:
        atoms = labelled(cells(length)[0], {'energy': -length})
        atoms.info['structure_id'] = f's{length:g}'
        store.add(f's{length:g}', atoms, 0.5)


def energies(folder: Path) -> list[float]:
    frames = ase.io.read(folder / 'low.extxyz', ':')
    return [frame.get_potential_energy() for frame in frames]


def test_what_is_added_is_there_at_once_and_later(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        add(store, 5.0)
        assert energies(tmp_path) == [-5.0]
        add(store, 6.0)
        store.finish(['s5', 's6'])
    with opened(tmp_path) as store:
        assert 's5' in store
        assert 's6' in store
        assert 's7' not in store
        assert (store.labelled, store.seconds_each) == (2, 0.5)


def test_a_structure_takes_the_place_of_its_former_one(tmp_path: Path) -> None:
    """As one does that is relaxed further; also if `finish` was not reached."""
    with opened(tmp_path) as store:
        add(store, 5.0, 6.0)
        later = labelled(cells(5.5)[0], {'energy': -5.5})
        later.info['structure_id'] = 's5'
        store.add('s5', later, 0.5)
        assert store.labelled == 2
    with opened(tmp_path) as store:
        assert store.read('s5').get_potential_energy() == -5.5
        store.finish(['s5', 's6'])
        assert energies(tmp_path) == [-5.5, -6.0]
        assert store.read('s6').get_potential_energy() == -6.0


def test_the_time_per_label_survives_a_kill(tmp_path: Path) -> None:
    """Labels whose time was lost do not make the others look quicker."""
    with opened(tmp_path) as store:
        add(store, 5.0)  # and no finish
    with opened(tmp_path) as store:
        add(store, 6.0)
        store.finish(['s5', 's6'])
        assert (store.labelled, store.seconds_each) == (2, 0.5)
    with opened(tmp_path) as store:
        assert store.seconds_each == 0.5


def test_arguments_that_json_writes_otherwise_are_the_same(tmp_path: Path) -> None:
    """Setups by the number of an atom, a date, a k-mesh."""
    told = {'setups': {0: 'sv'}, 'kpts': (2, 2), 'day': datetime.date(2026, 1, 1)}
    record = record_of(Teacher('x:y', {'low': ''}, told), 'low')
    for _ in range(2):
        with opened(tmp_path, **record) as store:
            add(store, 5.0)
    other = record_of(Teacher('x:y', {'low': ''}, {'setups': {1: 'sv'}}), 'low')
    with pytest.raises(UserError, match='has labels of'), opened(tmp_path, **other):
        pass


def test_a_file_cut_anywhere_keeps_its_whole_frames(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        add(store, 5.0)
        first = store.path.stat().st_size
        add(store, 6.0)
    whole = store.path.read_bytes()
    for end in [*range(0, len(whole), 29), first - 1, first, first + 1]:
        store.path.write_bytes(whole[:end])
        with opened(tmp_path) as again:
            assert again.labelled == (end >= first)
            assert again.path.read_bytes() == whole[: first * (end >= first)]
    with opened(tmp_path) as again:
        add(again, 6.0)
    assert again.path.read_bytes() == whole


def test_a_list_of_failures_cut_anywhere_keeps_its_whole_rows(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as store:
        store.fail('s1', 'a.xyz:1', 'no, never')
        store.fail('s2', 'a.xyz:2', 'é')
    whole = store.failures.read_bytes()
    for end in range(0, len(whole), 5):  # also within a letter
        store.failures.write_bytes(whole[:end])
        with opened(tmp_path) as again:
            assert len(again.failed) == max(0, whole[:end].count(b'\n') - 1)
    store.failures.write_bytes(whole)
    with opened(tmp_path) as again:
        assert again.failed['s1'] == ['s1', 'a.xyz:1', 'no, never']


def test_at_the_end_labels_are_in_the_order_of_the_structures(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as store:
        add(store, 4.0, 7.0, 5.0, 6.0)  # 4: of an earlier call
        store.finish(['s5', 's6', 's7'])
        assert energies(tmp_path) == [-4.0, -5.0, -6.0, -7.0]
        add(store, 8.0)  # places in the file are those of the new one
        store.finish(['s8', 's5'])
    assert energies(tmp_path) == [-4.0, -6.0, -7.0, -8.0, -5.0]


def test_a_failure_that_was_overcome_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.fail('s5', 'a:0', 'one')
        store.fail('s6', 'a:1', 'two')
        add(store, 5.0)
        assert set(store.failed) == {'s6'}
        store.finish(['s5', 's6'])
        assert 's5' not in store.failures.read_text()
        add(store, 6.0)
        store.finish(['s5', 's6'])
    assert not store.failures.exists()


def test_who_labelled_nothing_does_not_keep_the_name(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass  # its calculator could not be made, for example
    with opened(tmp_path, arguments={'xc': 'PBE'}) as store:
        add(store, 5.0)
    assert energies(tmp_path) == [-5.0]


def test_labels_of_another_teacher_do_not_mix(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        add(store, 5.0)
    with opened(tmp_path):  # the same
        pass
    with (
        pytest.raises(UserError, match=r"labels of x:y, .* those of x:y with .'xc'"),
        opened(tmp_path, arguments={'xc': 'PBE'}),
    ):
        pass


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / 'low.extxyz'
    ase.io.write(path, cells(5.0))
    before = path.read_bytes()
    with pytest.raises(UserError, match='was not written by'), opened(tmp_path):
        pass
    (tmp_path / 'low.json').write_text('{"with": "x:y", "arguments": {}}')
    for content in (before, before[:-1]):  # also without the end of its last line
        path.write_bytes(content)
        with pytest.raises(UserError, match='not labelled by'), opened(tmp_path):
            pass
        assert path.read_bytes() == content


def test_two_processes_do_not_write_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('sevennet_mf.lock.PATIENCE', 0.0)
    with opened(tmp_path):
        with pytest.raises(UserError, match='is labelling'), opened(tmp_path):
            pass
        other = Store(tmp_path, 'high', RECORD)  # another fidelity may
        other.close()


def test_a_full_disk_leaves_whole_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with opened(tmp_path) as store:
        add(store, 5.0)
        with monkeypatch.context() as patch:
            patch.setattr(os, 'fsync', full)
            with pytest.raises(UserError, match=r'No space left.*is kept'):
                add(store, 6.0)
        assert energies(tmp_path) == [-5.0]
        add(store, 7.0)
    assert energies(tmp_path) == [-5.0, -7.0]
