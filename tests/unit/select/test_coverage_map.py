"""The picture of coverage: what is in it, for one element and for many."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from sevennet_mf.errors import UserError
from sevennet_mf.select import coverage_map
from sevennet_mf.select.features import NodeFeatures


def features(n: int, elements: int, width: int = 5, seed: int = 0) -> NodeFeatures:
    """One atom of each element in each of n structures."""
    rng = np.random.default_rng(seed)
    numbers = range(1, elements + 1)
    values = {z: rng.normal(size=(n, width)).astype(np.float32) for z in numbers}
    return NodeFeatures(n, values, {z: np.arange(n) for z in numbers})


def draw(path: Path, elements: int, width: int = 5) -> None:
    pool, own = features(9, elements, width), features(3, elements, width, 1)
    left = np.linspace(2.0, 1.0, 10).reshape(5, 2)
    coverage_map.draw(str(path), pool, own, [4, 0, 7, 2], left)
    assert path.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('elements', [1, 3, 8])
def test_each_element_has_a_panel_with_all_structures(
    tmp_path: Path, drawn: list[Figure], elements: int
) -> None:
    draw(tmp_path / 'a.png', elements)
    (figure,) = drawn
    *panels, curve = figure.axes
    assert len(panels) == min(elements, 5)
    for axes in panels:
        counts = [len(c.get_offsets()) for c in axes.collections]
        assert counts == [5, 3, 4]  # not chosen, labelled, chosen
        assert [t.get_text() for t in axes.texts] == ['1', '2', '3', '4']
    assert len(curve.lines[0].get_xdata()) == 5
    title = figure.get_suptitle()
    assert ('not shown: C, N, O' in title) == (elements == 8)


def test_components_are_those_of_the_largest_variance() -> None:
    pool = features(200, 1)
    pool.values[1][:, 2] *= 10.0
    pool.values[1][:, 4] *= 5.0
    found = coverage_map.principal(1, pool, None)
    first = np.array([found.pool[k][0] for k in range(200)])
    expected = pool.values[1][:, 2] - pool.values[1][:, 2].mean()
    assert abs(np.corrcoef(first, expected)[0, 1]) > 0.99
    assert 0.7 < found.share[0] < 0.85


def test_a_single_structure_or_feature_is_drawn(tmp_path: Path) -> None:
    draw(tmp_path / 'narrow.png', 1, width=1)
    path = tmp_path / 'one.png'
    coverage_map.draw(str(path), features(1, 1), None, [0], np.zeros((2, 2)))
    assert path.is_file()


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='b.png cannot be written'):
        coverage_map.draw(
            str(tmp_path / 'a' / 'b.png'), features(2, 1), None, [0], np.ones((2, 2))
        )
