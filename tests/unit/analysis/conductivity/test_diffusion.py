"""Random walks with a known diffusion coefficient, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from sevennet_mf.analysis.conductivity import diffusion
from sevennet_mf.analysis.conductivity.diffusion import Diffusion, diffusion_of
from sevennet_mf.errors import UserError

INTERVAL = 0.1  # ps
STEP = 0.4  # Å, of each coordinate
TRUE = 3 * STEP**2 / 6 / INTERVAL * 1e-4  # cm^2/s


def walk(n_frames: int, n_ions: int, seed: int = 0) -> np.ndarray:
    moves = np.random.default_rng(seed).normal(size=(n_frames, n_ions, 3))
    return (STEP * moves).cumsum(axis=0)


@pytest.fixture(scope='module')
def many() -> Diffusion:
    """Of 300 ions."""
    return diffusion_of(walk(200, 300), INTERVAL)


def test_a_random_walk_has_its_diffusion_coefficient(many: Diffusion) -> None:
    assert many.samples is not None
    low, high = np.percentile(many.samples, [2.5, 97.5])
    assert low < TRUE < high
    assert high - low < 0.15 * TRUE
    assert many.reason == ''
    assert many.is_stationary
    assert many.exponent == pytest.approx(1, abs=2 * many.exponent_sd)
    assert many.start == pytest.approx(INTERVAL)


def test_the_msd_is_that_of_all_windows(many: Diffusion) -> None:
    positions = walk(200, 300)
    for k in (0, 5, -1):
        lag = round(many.lags[k] / INTERVAL)
        moved = positions[lag:] - positions[:-lag]
        assert many.msd[k] == pytest.approx((moved**2).sum(axis=2).mean())


def test_uncertainties_are_those_of_repeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the exponent and of the MSD, over many short walks."""
    empty = (np.zeros(1), np.zeros((1, 2)))
    monkeypatch.setattr(diffusion, '_posterior', lambda *_: empty)
    found = [
        diffusion_of(walk(100, 8, seed), INTERVAL, start=INTERVAL)
        for seed in range(30)
    ]
    claimed = np.mean([one.exponent_sd for one in found])
    assert np.std([one.exponent for one in found]) == pytest.approx(claimed, rel=0.4)
    for k in (1, 10):
        claimed = np.mean([one.msd_sd[k] for one in found])
        assert np.std([one.msd[k] for one in found]) == pytest.approx(
            claimed, rel=0.4
        )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples, where nothing depends on their number."""
    monkeypatch.setattr(diffusion, 'SAMPLES', 60)
    monkeypatch.setattr(diffusion, 'BURN', 20)


@pytest.mark.usefixtures('few')
def test_samples_repeat_and_leave_others_alone() -> None:
    np.random.seed(3)
    wanted = np.random.rand()
    np.random.seed(3)
    first = diffusion_of(walk(60, 60), INTERVAL, seed=5)
    assert np.random.rand() == wanted
    again = diffusion_of(walk(60, 60), INTERVAL, seed=5)
    assert first.samples is not None
    np.testing.assert_array_equal(first.samples, again.samples)


def test_ions_in_cages_have_no_coefficient() -> None:
    caged = 0.5 * np.random.default_rng(0).normal(size=(200, 24, 3))
    found = diffusion_of(caged, INTERVAL)
    assert found.samples is None
    assert found.line is None
    assert abs(found.exponent) < 0.2
    assert found.reason.startswith('not yet diffusive: exponent of the MSD')


def test_ions_that_fly_or_rest_have_none() -> None:
    velocity = np.random.default_rng(0).normal(size=(24, 3))
    flying = np.arange(100)[:, None, None] * velocity
    found = diffusion_of(flying, INTERVAL)
    assert found.samples is None
    assert found.exponent == pytest.approx(2, abs=0.01)
    assert found.reason.startswith('not diffusive')
    resting = diffusion_of(0 * flying, INTERVAL)
    assert 'too short to tell' in resting.reason


def test_a_single_ion_says_too_little() -> None:
    """Its exponent may be anything."""
    found = diffusion_of(walk(25, 1, seed=2), INTERVAL)
    assert found.samples is None
    assert 'too short' in found.reason


def test_less_than_a_hop_is_too_short() -> None:
    found = diffusion_of(0.1 * walk(100, 200), INTERVAL)
    assert found.samples is None
    assert abs(found.exponent - 1) < 0.1
    assert 'less than from one site to the next' in found.reason


@pytest.mark.usefixtures('few')
def test_a_run_that_still_changes_is_told() -> None:
    moves = STEP * np.random.default_rng(0).normal(size=(200, 50, 3))
    moves[:100] *= 1.5  # a melt that freezes, say
    found = diffusion_of(moves.cumsum(axis=0), INTERVAL, start=INTERVAL)
    assert found.halves < -diffusion.UNEQUAL
    assert not found.is_stationary


def test_a_start_that_is_no_lag() -> None:
    with pytest.raises(UserError, match='--start 50: the diffusive regime must'):
        diffusion_of(walk(100, 5), INTERVAL, start=50.0)


def test_without_kinisi(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, 'kinisi.parser', None)
    with pytest.raises(UserError, match=r"pip install 'sevennet_mf\[analysis\]'"):
        diffusion.need_kinisi()
