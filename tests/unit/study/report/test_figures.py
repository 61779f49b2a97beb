"""Pictures of a study: what stands on their axes, and what is drawn where."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from sevennet_mf.study.report import figures
from sevennet_mf.study.report.axes import error_axis, looks
from sevennet_mf.study.report.labels_saved import labels_saved
from sevennet_mf.study.report.run_results import OverSeeds, Table

ROWS = ('high_only', 'delta', 'multi_fidelity')
LOOKS = looks(ROWS)


def table(counts: tuple[int, ...] = (4, 8, 16), seeds: int = 3) -> Table:
    rng = np.random.default_rng(0)
    return {
        (row, n): OverSeeds(
            tuple(range(seeds)),
            tuple(size * n**-0.5 * np.exp(0.1 * rng.normal(size=seeds))),
        )
        for row, size in zip(ROWS, (200.0, 140.0, 60.0), strict=True)
        for n in counts
    }


def ticks(figure: Figure, which: str) -> list[list[str]]:
    """What is written at the ticks of each panel, as far as it is in view."""
    figure.draw_without_rendering()
    axes = [getattr(ax, which) for ax in figure.axes]
    found = []
    for axis in axes:
        low, high = sorted(axis.get_view_interval())
        labels = axis.get_ticklabels()
        places = axis.get_ticklocs()
        pairs = zip(places, labels, strict=True)
        found.append([t.get_text() for p, t in pairs if low <= p <= high])
    return found


def test_learning_curves(tmp_path: Path, drawn: list[Figure]) -> None:
    tables = {'energy': table(), 'force': table()}
    figures.learning_curves(tables, 'mae', LOOKS, str(tmp_path / 'curves'))
    assert imread(tmp_path / 'curves.png').std() > 0.05  # not blank
    (figure,) = drawn
    energy, force = figure.axes
    assert energy.get_ylabel() == 'test MAE (meV/atom)'
    assert force.get_ylabel() == 'test MAE (meV/Å)'
    assert energy.get_xscale() == energy.get_yscale() == 'log'
    # the numbers themselves, not powers of ten
    assert ticks(figure, 'xaxis') == [['4', '8', '16']] * 2
    for panel in ticks(figure, 'yaxis'):
        assert 3 <= len(panel) <= 9
        assert all(float(text) > 0 for text in panel)
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == list(ROWS)
    # every seed is there as a point of its own
    means = [line.get_ydata() for line in energy.lines]
    shown = np.concatenate([np.asarray(y, dtype=float) for y in means])
    for spread in table().values():
        assert np.isin(spread.values, shown).all()
        assert np.isclose(shown, spread.mean).any()


def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    texts = []
    for name in ('a', 'b'):
        path = str(tmp_path / name)
        figures.learning_curves({'force': table()}, 'mae', LOOKS, path)
        texts.append((tmp_path / f'{name}.svg').read_bytes())
    assert texts[0] == texts[1]
    assert b'<svg' in texts[0]


def test_one_seed_and_one_number_of_labels(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    one = table(counts=(8,), seeds=1)
    figures.learning_curves({'energy': one}, 'mae', LOOKS, str(tmp_path / 'one'))
    assert ticks(drawn[0], 'xaxis') == [['8']]
    assert len(ticks(drawn[0], 'yaxis')[0]) >= 3


def test_means_over_fewer_seeds_are_hollow(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    fewer = {**table(), ('delta', 8): OverSeeds((1, 3), (40.0, 60.0))}
    for name, points in (('fewer', fewer), ('all', table())):
        path = str(tmp_path / name)
        figures.learning_curves({'energy': points}, 'mae', LOOKS, path)
    lines = [figure.axes[0].lines for figure in drawn]
    hollow = [
        [line for line in own if line.get_markerfacecolor() == 'white']
        for own in lines
    ]
    assert [len(own) for own in hollow] == [1, 0]
    assert np.asarray(hollow[0][0].get_ydata()).tolist() == [50.0]
    said = [
        'fewer seeds' in {t.get_text() for t in figure.legends[0].get_texts()}
        for figure in drawn
    ]
    assert said == [True, False]


def test_errors_that_are_all_alike(tmp_path: Path, drawn: list[Figure]) -> None:
    alike = {(row, 8): OverSeeds((1,), (10.0,)) for row in ROWS}
    figures.learning_curves({'energy': alike}, 'mae', LOOKS, str(tmp_path / 'one'))
    low, high = drawn[0].axes[0].get_ylim()
    assert low < 10.0 < high


def test_spread_as_large_as_the_mean(tmp_path: Path, drawn: list[Figure]) -> None:
    wide = {**table(), ('delta', 8): OverSeeds((1, 2), (1.0, 100.0))}
    figures.learning_curves({'energy': wide}, 'mae', LOOKS, str(tmp_path / 'wide'))
    low, high = drawn[0].axes[0].get_ylim()
    assert 0 < low < 1.0
    assert 100.0 < high < 250.0


def test_counts_that_are_close_share_a_tick(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    close = table(counts=(4, 28, 29))
    figures.learning_curves({'energy': close}, 'mae', LOOKS, str(tmp_path / 'close'))
    assert ticks(drawn[0], 'xaxis') == [['4', '29']]


def test_labels_saved(tmp_path: Path, drawn: list[Figure]) -> None:
    answers = {'energy': labels_saved(table(), 'energy')}
    values = {(n.row, n.labels): n.value for n in answers['energy']}
    assert values['multi_fidelity', 16] == np.inf
    assert 4 < values['delta', 4] < 16
    figures.labels_needed(answers, LOOKS, str(tmp_path / 'saved'))
    assert imread(tmp_path / 'saved.png').std() > 0.05
    (figure,) = drawn
    (panel,) = figure.axes
    assert panel.get_ylabel() == 'labels that high_only needs'
    assert ticks(figure, 'yaxis') == [['4', '8', '16']]
    points = [line for line in panel.lines if line.get_marker() in 'os^Dv']
    hollow = [p for p in points if p.get_markerfacecolor() == 'white']
    assert len(points) == 6
    assert len(hollow) == sum(not n.measured for n in answers['energy'])
    assert all(float(np.asarray(p.get_ydata())[0]) > 16 for p in hollow)


def test_looks_differ() -> None:
    rows = ['high_only', *(f'row_{i}' for i in range(14))]
    found = looks(rows)
    assert found['high_only'].colour == '#000000'
    assert len({(k.colour, k.line) for k in found.values()}) == 15
    # a row keeps its look when high_only is not there
    assert looks(rows[1:])['row_0'] == found['row_0']


@pytest.mark.parametrize(
    ('low', 'high'),
    [(9.0, 11.0), (655.0, 1010.0), (12.0, 130.0), (0.02, 0.9), (1.0, 9000.0)],
)
def test_a_few_round_numbers_on_any_axis(low: float, high: float) -> None:
    axis = Figure().subplots().yaxis
    error_axis(axis, low, high)
    places = axis.get_ticklocs()
    assert 3 <= len(places) <= 10
    assert all(low <= p <= high for p in places)


# ---- parity


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
    found = figures.parity(runs, LOOKS, tmp_path)
    assert found == {row: f'{tmp_path}/parity_{row}.png' for row in runs}
    assert imread(found['delta']).std() > 0.02
    assert [len(figure.axes) for figure in drawn] == [2, 2]  # energy and force
    for one, other in zip(drawn[0].axes, drawn[1].axes, strict=True):
        assert one.get_xlim() == other.get_ylim()
    energy, force = drawn[1].axes
    assert energy.get_xlabel() == 'label (eV/atom)'
    assert force.get_ylabel() == 'prediction (eV/Å)'
    assert energy.texts[0].get_text().startswith('MAE 20.0 meV/atom\nRMSE 20.0')


def test_a_model_that_went_wrong_leaves_the_others_readable(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    runs = {
        'high_only': predictions(tmp_path / 'a.npz', 1e6),
        'delta': predictions(tmp_path / 'b.npz'),
    }
    figures.parity(runs, LOOKS, tmp_path)
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
    assert figures.parity(runs, LOOKS, tmp_path) == {}
    empty = predictions(
        tmp_path / 'empty.npz',
        **{f'{q}_{k}': nothing for q in ('energy', 'force') for k in (
            'label',
            'predicted',
        )},
    )
    assert figures.parity({'delta': empty}, LOOKS, tmp_path) == {}


def test_energies_alone(tmp_path: Path, drawn: list[Figure]) -> None:
    nothing = np.zeros(0)
    path = predictions(
        tmp_path / 'a.npz', force_label=nothing, force_predicted=nothing
    )
    assert list(figures.parity({'delta': path}, LOOKS, tmp_path)) == ['delta']
    assert [ax.get_title() for ax in drawn[0].axes] == [
        '(E − Σ atomic references) / N'
    ]
