"""lc.csv: what is in it, and how it goes on after an interruption."""

from pathlib import Path

import pytest

from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.curve import LearningCurve

SETS = {'trainset': ['pbe', 'r2scan'], 'validset': ['r2scan']}
METRICS = ['Energy_RMSE', 'TotalLoss']
HEAD = (
    'epoch,lr,trainset_pbe_Energy_RMSE,trainset_pbe_TotalLoss,'
    'trainset_r2scan_Energy_RMSE,trainset_r2scan_TotalLoss,'
    'validset_r2scan_Energy_RMSE,validset_r2scan_TotalLoss'
)


def curve_in(folder: Path, active: bool = True) -> LearningCurve:
    return LearningCurve(str(folder), SETS, METRICS, active)


def values(x: float) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {f: {m: x + k for k, m in enumerate(METRICS)} for f in fidelities}
        for name, fidelities in SETS.items()
    }


def written(folder: Path, epochs: int) -> Path:
    curve = curve_in(folder)
    name = curve.create()
    for epoch in range(1, epochs + 1):
        curve.append(epoch, 0.01 / epoch, values(epoch / 8))
    return folder / name


def test_a_line_per_epoch_in_the_hosts_format(tmp_path: Path) -> None:
    text = written(tmp_path, 2).read_text()
    assert text == (
        f'{HEAD}\n'
        '1,0.010000,0.125000,1.125000,0.125000,1.125000,0.125000,1.125000\n'
        '2,0.005000,0.250000,1.250000,0.250000,1.250000,0.250000,1.250000\n'
    )


def test_numbers_that_are_none_are_not_padded(tmp_path: Path) -> None:
    curve = curve_in(tmp_path)
    name = curve.create()
    curve.append(1, 0.5, values(float('nan')))
    assert (tmp_path / name).read_text().splitlines()[1] == f'1,0.500000{",nan" * 6}'


def test_an_older_curve_stays(tmp_path: Path) -> None:
    first = written(tmp_path, 2)
    second = written(tmp_path, 1)
    assert first != second
    assert len(first.read_text().splitlines()) == 3
    assert len(second.read_text().splitlines()) == 2


@pytest.mark.parametrize('before', [1, 2, 3, 9])
def test_lines_that_will_be_done_again_go(tmp_path: Path, before: int) -> None:
    path = written(tmp_path, 3)
    lines = path.read_text().splitlines()
    curve = curve_in(tmp_path)
    curve.reopen(path.name, before)
    assert path.read_text().splitlines() == lines[:before]
    curve.append(before, 0.1, values(9))
    assert path.read_text().splitlines()[-1].startswith(f'{before},0.100000,9.0')


@pytest.mark.parametrize('tail', ['1', '1,0.0', '\n', 'x,y', '12,0.010000,0.1'])
def test_a_line_cut_short_goes(tmp_path: Path, tail: str) -> None:
    path = written(tmp_path, 2)
    whole = path.read_text()
    path.write_text(whole + tail)
    curve_in(tmp_path).reopen(path.name, 20)
    assert path.read_text() == whole


@pytest.mark.parametrize('content', [None, ''])
def test_a_curve_that_is_gone(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / 'lc.csv').write_text(content)
    with pytest.raises(UserError, match=r'--resume: .*lc\.csv is missing'):
        curve_in(tmp_path).reopen('lc.csv', 2)


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    curve = curve_in(tmp_path, active=False)
    curve.create()
    curve.append(1, 0.1, values(1.0))
    curve.reopen('lc.csv', 1)
    assert list(tmp_path.iterdir()) == []


def test_a_curve_that_cannot_be_written(tmp_path: Path) -> None:
    curve = curve_in(tmp_path)
    curve.path = str(tmp_path)  # a folder: nobody may write to it, root included
    with pytest.raises(UserError, match='cannot be written: Is a directory'):
        curve.append(1, 0.1, values(1.0))
    with pytest.raises(UserError, match='cannot be written: No such file'):
        curve_in(tmp_path / 'gone').create()
