"""Pictures: which panels there are, in what colours, from what numbers."""

import math
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from sevennet_mf.drawing import COLOURS
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.learning_curves import learning_curves
from sevennet_mf.evaluate.parity import MAX_POINTS, parity
from sevennet_mf.evaluate.predictions import Predictions

METRICS = ('Energy_RMSE', 'Force_RMSE', 'Stress_RMSE', 'TotalLoss', 'Theta_Energy')
COLUMNS = [
    f'{s}_{f}_{m}'
    for s in ('trainset', 'validset')
    for f in ('pbe', 'r2scan')
    for m in METRICS
]


def predictions(n: int = 20, stress: bool = True, predicted_as: str = 'pbe') -> Any:
    rng = np.random.default_rng(0)
    forces = [rng.normal(size=(2, 3)) for _ in range(n)]
    reference = np.full(n, -8000.0)
    label = reference + rng.normal(size=n)
    label_stress = rng.normal(size=(n, 6)) / 100
    return Predictions(
        fidelities=('pbe',),
        predicted_as=(predicted_as,),
        sources=[f'a.xyz:{i}' for i in range(n)],
        fidelity=np.zeros(n, dtype=np.int64),
        n_atoms=np.full(n, 2),
        energy=label + 0.02,
        reference=reference,
        forces=[f + 0.5 for f in forces],
        stress=label_stress + 0.001,
        label_energy=label,
        label_forces=forces,
        label_stress=label_stress if stress else label_stress * np.nan,
    )


def texts(figure: Figure) -> str:
    return ' '.join(t.get_text() for ax in figure.axes for t in ax.texts)


def test_parity(tmp_path: Path, drawn: list[Figure]) -> None:
    paths = parity(predictions(), ['r2scan', 'pbe'], f'{tmp_path}/')
    assert paths == [f'{tmp_path}/parity_pbe.png']
    assert imread(paths[0]).std() > 0.05  # not blank
    (figure,) = drawn
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        '(E − Σ atomic references) / N',
        'Force component',
        'Stress component',
    ]
    # 0.02 eV over 2 atoms; 0.5 eV/Å; 0.001 eV/Å^3
    assert 'MAE 10.0 meV/atom' in texts(figure)
    assert 'RMSE 500 meV/Å' in texts(figure)
    assert 'MAE 1.60 kbar' in texts(figure)
    energy = figure.axes[0]
    assert energy.get_xlabel() == 'label (eV/atom)'
    assert energy.get_xlim() == energy.get_ylim()
    assert energy.get_xlim()[1] < 10  # not near -8000: the references are out
    line = energy.lines[0].get_xydata()
    assert (line[:, 0] == line[:, 1]).all()
    assert 'predicted as' not in figure.get_suptitle()


def test_panels_without_labels_are_left_out(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    parity(predictions(stress=False, predicted_as='r2scan'), ['pbe'], f'{tmp_path}/')
    assert len(drawn[0].axes) == 2
    assert drawn[0].get_suptitle() == 'pbe, predicted as r2scan: 20 structures'


def test_only_one_fidelity(tmp_path: Path) -> None:
    names = ['pbe', 'r2scan']
    assert parity(predictions(), names, f'{tmp_path}/', only='r2scan') == []
    assert len(parity(predictions(), names, f'{tmp_path}/', only='pbe')) == 1


def test_colour_is_the_fidelitys(tmp_path: Path, drawn: list[Figure]) -> None:
    parity(predictions(), ['r2scan', 'pbe'], f'{tmp_path}/')
    colour = drawn[0].axes[0].collections[0].get_facecolor()[0, :3]
    np.testing.assert_allclose(colour, to_rgb(COLOURS[1]))


def test_one_structure_and_many(tmp_path: Path, drawn: list[Figure]) -> None:
    parity(predictions(1), ['pbe'], f'{tmp_path}/one_')
    parity(predictions(20_000), ['pbe'], f'{tmp_path}/many_')
    points = drawn[1].axes[1].collections[0].get_offsets()
    assert len(points) <= MAX_POINTS < 120_000
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'many_parity_pbe.png',
        'one_parity_pbe.png',
    ]


def test_predictions_that_are_not_finite(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    found = predictions()
    found.energy[3] = np.inf
    found.stress[:] = np.nan
    parity(found, ['pbe'], f'{tmp_path}/')
    assert 'MAE inf meV/atom' in texts(drawn[0])
    assert 'MAE nan kbar' in texts(drawn[0])


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='cannot be written'):
        parity(predictions(), ['pbe'], f'{tmp_path}/gone/')


def write_lc(path: Path, epochs: int, columns: list[str], **fixed: float) -> Path:
    rng = np.random.default_rng(1)
    lines = ['epoch,lr,' + ','.join(columns)]
    for epoch in range(1, epochs + 1):
        numbers = [fixed.get(c, rng.lognormal()) for c in columns]
        lines.append(f'{epoch},{0.004:8f},' + ','.join(f'{x:6f}' for x in numbers))
    path.write_text('\n'.join(lines) + '\n')
    return path


@pytest.mark.parametrize('epochs', [1, 6, 300])
def test_learning_curves(
    tmp_path: Path, drawn: list[Figure], epochs: int
) -> None:
    lc = write_lc(tmp_path / 'lc.csv', epochs, COLUMNS)
    assert learning_curves(str(lc), str(tmp_path / 'lc.png'))
    assert imread(tmp_path / 'lc.png').std() > 0.05
    axes = [ax for ax in drawn[0].axes if ax.lines]
    assert [ax.get_title() for ax in axes] == [
        'Energy RMSE',
        'Force component RMSE',
        'Stress component RMSE',
        'Total loss',
        'Mean |energy from θ|',
    ]
    for ax in axes:
        assert ax.get_yscale() == 'log'
        assert len(ax.lines) == 4
        assert len({line.get_color() for line in ax.lines}) == 2
        assert len({line.get_linestyle() for line in ax.lines}) == 2
        assert all(len(line.get_xdata()) == epochs for line in ax.lines)
    labels = [t.get_text() for t in drawn[0].legends[0].get_texts()]
    assert labels == ['pbe', 'r2scan', 'trainset', 'validset']


def test_units_of_the_curves(tmp_path: Path, drawn: list[Figure]) -> None:
    columns = ['validset_pbe_Energy_RMSE', 'validset_pbe_Stress_RMSE']
    lc = write_lc(tmp_path / 'lc.csv', 2, columns, **dict.fromkeys(columns, 0.25))
    learning_curves(str(lc), str(tmp_path / 'lc.png'))
    energy, stress = drawn[0].axes
    assert energy.get_ylabel() == 'meV/atom'
    assert energy.lines[0].get_ydata().tolist() == [250, 250]
    assert stress.get_ylabel() == 'kbar'
    # of components, where the file has that of the six together
    shown = stress.lines[0].get_ydata().tolist()
    assert shown == pytest.approx([0.25 / math.sqrt(6)] * 2)


def test_what_cannot_be_drawn_is_left_out(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    nan = {c: np.nan for c in COLUMNS if 'Stress' in c}
    zero = {c: 0.0 for c in COLUMNS if 'Theta' in c}  # as with one fidelity
    columns = [*COLUMNS, 'seconds', 'a_b']
    lc = write_lc(tmp_path / 'lc.csv', 3, columns, **nan, **zero)
    assert learning_curves(str(lc), str(tmp_path / 'lc.png'))
    titles = [ax.get_title() for ax in drawn[0].axes if ax.lines]
    assert titles == ['Energy RMSE', 'Force component RMSE', 'Total loss']


def test_mae_where_there_is_no_rmse(tmp_path: Path, drawn: list[Figure]) -> None:
    lc = write_lc(tmp_path / 'lc.csv', 3, ['validset_pbe_Energy_MAE'])
    learning_curves(str(lc), str(tmp_path / 'lc.png'))
    assert [ax.get_title() for ax in drawn[0].axes] == ['Energy MAE']


def test_names_with_underscores(tmp_path: Path, drawn: list[Figure]) -> None:
    names = ['my_validset_r2_scan_TotalLoss', 'calibration_pbe_TotalLoss']
    lc = write_lc(tmp_path / 'lc.csv', 3, names)
    learning_curves(str(lc), str(tmp_path / 'lc.png'))
    labels = [t.get_text() for t in drawn[0].legends[0].get_texts()]
    assert labels == ['r2_scan', 'pbe', 'my_validset', 'calibration']


def test_cut_and_empty_files(tmp_path: Path) -> None:
    lc = write_lc(tmp_path / 'lc.csv', 3, COLUMNS)
    lc.write_text(lc.read_text()[:-40])  # killed while it wrote
    assert learning_curves(str(lc), str(tmp_path / 'lc.png'))
    lc.write_text('epoch,lr,' + ','.join(COLUMNS) + '\n')
    assert not learning_curves(str(lc), str(tmp_path / 'none.png'))
    assert not (tmp_path / 'none.png').exists()
    lc.write_text('')
    with pytest.raises(UserError, match=re.escape('lc.csv is empty')):
        learning_curves(str(lc), str(tmp_path / 'none.png'))
    with pytest.raises(UserError, match='cannot be read'):
        learning_curves(str(tmp_path / 'gone.csv'), str(tmp_path / 'none.png'))


def test_no_figure_is_left_open(tmp_path: Path) -> None:
    from matplotlib._pylab_helpers import Gcf

    parity(predictions(), ['pbe'], f'{tmp_path}/')
    assert Gcf.get_all_fig_managers() == []
    before = dict(matplotlib.rcParams)
    learning_curves(
        str(write_lc(tmp_path / 'lc.csv', 3, COLUMNS)), str(tmp_path / 'lc.png')
    )
    assert dict(matplotlib.rcParams) == before


def test_learning_curves_show_the_rmse_of_parity_plots(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    """Of components, where lc.csv has the host's, of vectors."""
    force, stress = math.sqrt(3) * 0.5, math.sqrt(6) * 1.6
    (tmp_path / 'lc.csv').write_text(
        'epoch,lr,validset_pbe_Force_RMSE,validset_pbe_Stress_RMSE\n'
        f'1,0.1,{force},{stress}\n'
    )
    assert learning_curves(str(tmp_path / 'lc.csv'), str(tmp_path / 'a.png'))
    parity(predictions(), ['pbe'], f'{tmp_path}/')
    curves, panels = drawn
    titles = [ax.get_title() for ax in curves.axes if ax.lines]
    assert titles == ['Force component RMSE', 'Stress component RMSE']
    shown = [float(ax.lines[0].get_ydata()[0]) for ax in curves.axes if ax.lines]
    assert shown == pytest.approx([500.0, 1.6])
    assert 'RMSE 500 meV/Å' in texts(panels)
    assert 'RMSE 1.60 kbar' in texts(panels)
