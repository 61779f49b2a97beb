"""What a study writes is read back as it was."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers import INGAN
from sevenn.train.graph_dataset import SevenNetGraphDataset
from train_helpers import MOLECULES

from sevennet_mf.data import extxyz
from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.data.same.identity import digest
from sevennet_mf.errors import UserError

FILES = {
    'periodic, with stress': INGAN / 'pbe_valid.extxyz',
    'periodic, without stress': INGAN / 'r2scan_valid.extxyz',
    'molecules, energies of all electrons': MOLECULES / 'ccsdt_valid.extxyz',
}


@pytest.mark.parametrize('path', FILES.values(), ids=FILES)
def test_structures_and_labels_survive(path: Path, tmp_path: Path) -> None:
    given = list(
        read_entry({'file': [str(path)], 'fidelity': 'x'}, None, ['x'], 4.0)
    )
    copy = tmp_path / 'copy.extxyz'
    assert extxyz.write(copy, map(extxyz.to_atoms, given)) == len(given)
    entry = {'file': [str(copy)], 'fidelity': 'x'}
    found = list(read_entry(entry, None, ['x'], 4.0))
    for a, b in zip(given, found, strict=True):
        assert a.energy == b.energy  # to the last bit
        assert digest(a) == digest(b)
        assert b.atoms is not None
        assert b.atoms.info['source'] == a.source
        for name in ('forces', 'stress'):
            before, after = getattr(a, name), getattr(b, name)
            assert (before is None) == (after is None)
            if before is not None:
                np.testing.assert_allclose(after, before, rtol=0, atol=1e-8)


def test_a_graph_file_has_no_cell(tmp_path: Path) -> None:
    dataset = SevenNetGraphDataset(
        cutoff=4.0,
        root=str(tmp_path),
        files=[str(INGAN / 'pbe_valid.extxyz')],
        processed_name='graphs.pt',
    )
    assert len(dataset)
    made = tmp_path / 'sevenn_data' / 'graphs.pt'
    entry = {'file': [str(made)], 'fidelity': 'x'}
    first = next(read_entry(entry, None, ['x'], 4.0))
    with pytest.raises(UserError, match=r'graphs.pt:0: .* graph file has no cell'):
        extxyz.to_atoms(first)


def test_a_file_that_runs_use_stays(tmp_path: Path) -> None:
    new, path = tmp_path / 'new', tmp_path / 'old'
    path.write_text('1')
    new.write_text('1')
    extxyz.put(new, path, may_change=False)
    assert not new.exists()
    new.write_text('2')
    with pytest.raises(UserError, match=r'old would change.*another folder with -o'):
        extxyz.put(new, path, may_change=False)
    assert path.read_text() == '1'
    extxyz.put(new, path, may_change=True)
    assert path.read_text() == '2'


def test_whole_frames_of_a_file_that_was_cut_anywhere() -> None:
    frames = [b'1\nstep=1\nAr 0 0 0\n', b'0\nstep=2\n', b'2\nstep=3\nA 0\nB 0\n']
    text = b''.join(frames)
    ends = [len(b''.join(frames[: n + 1])) for n in range(3)]
    for cut in range(len(text) + 1):
        found = [*extxyz.whole_frames(io.BytesIO(text[:cut]))]
        assert [end for *_, end in found] == [end for end in ends if end <= cut]
    assert [comment for comment, *_ in found] == [
        *(b'step=1\n', b'step=2\n', b'step=3\n'),
    ]
    with pytest.raises(ValueError, match='invalid literal'):
        [*extxyz.whole_frames(io.BytesIO(b'one\nstep=1\nAr 0 0 0\n'))]
