"""Parity plots: which are drawn, and on which axes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from sevennet_mf.study.report import parity as module
from sevennet_mf.study.report.drawing import looks
from sevennet_mf.study.report.parity import parity

LOOKS = looks(['high_only', 'delta'])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while a test runs."""
    kept: list[Figure] = []
    save = module.save

    def keep(figure: Figure, path: str) -> None:
        save(figure, path)
        kept.append(figure)

    monkeypatch.setattr(module, 'save', keep)
    return kept


def predictions(path: Path, off: float = 0.02, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    energy, force = rng.normal(size=18), rng.normal(size=300)
    arrays = {
        'energy_label': energy,
        'energy_predicted': energy + off,
        'force_label': force,
        'force_predicted': force - off,
        'n_atoms': np.full(18, 4),
    }
    np.savez(path, **{**arrays, **more})
    return path


def test_all_rows_have_the_same_axes(tmp_path: Path, drawn: list[Figure]) -> None:
    runs = {
        'high_only': predictions(tmp_path / 'a.npz', 0.5),
        'delta': predictions(tmp_path / 'b.npz', 0.02),
    }
    found = parity(runs, LOOKS, tmp_path)
    assert found == {row: f'{tmp_path}/parity_{row}.png' for row in runs}
    assert imread(found['delta']).std() > 0.02
    assert [len(figure.axes) for figure in drawn] == [2, 2]  # energy and force
    for one, other in zip(drawn[0].axes, drawn[1].axes, strict=True):
        assert one.get_xlim() == other.get_ylim()
    energy, force = drawn[1].axes
    assert energy.get_xlabel() == 'label (eV/atom)'
    assert force.get_ylabel() == 'prediction (eV/Å)'
    assert energy.texts[0].get_text() == 'MAE 20.0 meV/atom'


def test_a_model_that_went_wrong_leaves_the_others_readable(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    runs = {
        'high_only': predictions(tmp_path / 'a.npz', 1e6),
        'delta': predictions(tmp_path / 'b.npz'),
    }
    parity(runs, LOOKS, tmp_path)
    wrong, right = (figure.axes[0] for figure in drawn)
    assert right.get_xlim()[1] < 10.0
    assert '18 of 18 outside' in wrong.texts[0].get_text()
    assert 'outside' not in right.texts[0].get_text()


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    (tmp_path / 'broken.npz').write_bytes(b'PK not really')
    # as of a folder that was copied in part
    whole = predictions(tmp_path / 'whole.npz').read_bytes()
    (tmp_path / 'part.npz').write_bytes(whole[:-40])
    nothing = np.zeros(0)
    runs = {
        'high_only': tmp_path / 'missing.npz',
        'delta': tmp_path / 'broken.npz',
        'transfer': tmp_path / 'part.npz',
    }
    assert parity(runs, LOOKS, tmp_path) == {}
    empty = predictions(
        tmp_path / 'empty.npz',
        **{f'{q}_{k}': nothing for q in ('energy', 'force') for k in (
            'label',
            'predicted',
        )},
    )
    assert parity({'delta': empty}, LOOKS, tmp_path) == {}


def test_energies_alone(tmp_path: Path, drawn: list[Figure]) -> None:
    nothing = np.zeros(0)
    path = predictions(
        tmp_path / 'a.npz', force_label=nothing, force_predicted=nothing
    )
    assert list(parity({'delta': path}, LOOKS, tmp_path)) == ['delta']
    assert [ax.get_title() for ax in drawn[0].axes] == [
        '(E − Σ atomic references) / N'
    ]
