"""Figures become files: PNG or SVG, whole, and the same every time."""

from pathlib import Path

import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.image import imread

from sevennet_mf import drawing
from sevennet_mf.errors import UserError


def figure() -> Figure:
    with drawing.styled():
        made = drawing.sheet(2.0, 1.5)
        made.add_subplot().plot((1, 2), (1, 2), color=drawing.BLUE)
    return made


def test_the_end_of_the_name_says_what_is_written(tmp_path: Path) -> None:
    made = figure()
    for name in ('a.png', 'a.svg'):
        drawing.save(made, str(tmp_path / name))
    picture = imread(tmp_path / 'a.png')
    assert picture.shape == (225, 300, 4)  # of 150 dots per inch
    assert picture.std() > 0.02
    assert (tmp_path / 'a.svg').read_text().startswith('<?xml')


def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    for name in ('a.svg', 'b.svg', 'a.png', 'b.png'):
        drawing.save(figure(), str(tmp_path / name))
    for end in ('svg', 'png'):
        one, other = (tmp_path / f'{name}.{end}' for name in 'ab')
        assert one.read_bytes() == other.read_bytes()


def test_the_style_is_that_of_the_figure_alone() -> None:
    before = dict(rcParams)
    (axes,) = figure().axes
    assert not axes.spines['top'].get_visible()
    assert dict(rcParams) == before


def test_a_panel_of_nothing_says_why(tmp_path: Path, drawn: list[Figure]) -> None:
    made = figure()
    drawing.blank(made.axes[0], 'no forces')
    drawing.save(made, str(tmp_path / 'a.png'))
    (kept,) = drawn
    assert [text.get_text() for text in kept.axes[0].texts] == ['no forces']


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    match = r'a\.png cannot be written: No such .*\. Use --plot\.$'
    with pytest.raises(UserError, match=match):
        drawing.save(figure(), str(tmp_path / 'gone' / 'a.png'), 'Use --plot.')
