"""Conductivity from diffusion, and the line through temperatures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from sevennet_mf.analysis.conductivity.arrhenius import (
    Carriers,
    Estimate,
    charge_of,
    fit_arrhenius,
)
from sevennet_mf.errors import UserError

ENERGY, D0 = 0.25, 2e-3  # eV, cm^2/s
TEMPERATURES = (600.0, 800.0, 1000.0, 1200.0)


def true(temperature: float) -> float:
    return D0 * np.exp(-ENERGY / (units.kB * temperature))


def points(
    spread: float = 0.05,
    seed: int = 0,
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> list[tuple[float, np.ndarray]]:
    """Posteriors around values that are off by as much as they say."""
    rng = np.random.default_rng(seed)
    return [
        (t, true(t) * np.exp(spread * (rng.normal() + rng.normal(size=2000))))
        for t in temperatures
    ]


def test_conductivity_of_a_known_salt() -> None:
    """n q² D / kT by hand: 24 Li in 1000 Å^3, D = 1e-5 cm²/s, at 300 K."""
    carriers = Carriers('Li', 1.0, 24, 1000.0)
    by_hand = 24 / 1e-27 * (1.602176634e-19) ** 2 * 1e-9 / (1.380649e-23 * 300)
    found = carriers.conductivity(np.array([1e-5]), 300.0)
    assert found == pytest.approx(by_hand, rel=1e-6)  # S/m
    twice = Carriers('Mg', -2.0, 24, 1000.0).conductivity(np.array([1e-5]), 300.0)
    assert twice == pytest.approx(4 * by_hand, rel=1e-6)


def test_the_line_is_found() -> None:
    line = fit_arrhenius(points())
    assert line is not None
    low, high = np.percentile(line.energies, [2.5, 97.5])
    assert low < ENERGY < high
    assert high - low < 0.05
    assert line.is_line
    at = np.percentile(line.diffusion(300.0), [2.5, 97.5])
    assert at[0] < true(300.0) < at[1]
    assert line.is_extrapolation(300.0)
    assert not line.is_extrapolation(900.0)


def test_intervals_hold_what_they_say() -> None:
    """Over many repeats, 68 % of the intervals of 68 % hold the energy."""
    inside = 0
    for seed in range(200):
        line = fit_arrhenius(points(seed=seed), seed)
        assert line is not None
        low, high = Estimate.of(line.energies).within_68
        inside += low < ENERGY < high
    assert 0.58 < inside / 200 < 0.78


def test_a_kink_is_no_line() -> None:
    bent = points(spread=0.02)
    bent[0] = (600.0, 0.7 * bent[0][1])
    line = fit_arrhenius(bent)
    assert line is not None
    assert line.probability is not None
    assert line.probability < 1e-3
    assert not line.is_line


def test_two_points_always_lie_on_a_line() -> None:
    line = fit_arrhenius(points(temperatures=(800.0, 1000.0)))
    assert line is not None
    assert line.probability is None
    assert line.is_line
    assert fit_arrhenius(points(temperatures=(800.0,))) is None


def test_an_estimate_has_both_intervals() -> None:
    samples = np.random.default_rng(0).normal(10, 1, size=20000)
    found = Estimate.of(samples).times(2.0)
    assert found.median == pytest.approx(20, abs=0.1)
    assert found.within_68 == pytest.approx((18, 22), abs=0.1)
    assert found.within_95 == pytest.approx((16.08, 23.92), abs=0.15)


def test_charges_are_known_or_given() -> None:
    assert charge_of('Li', None) == 1
    assert charge_of('O', None) == -2
    assert charge_of('Li', 0.8) == 0.8
    with pytest.raises(UserError, match='charge of Ga is not known here'):
        charge_of('Ga', None)
    with pytest.raises(UserError, match='--charge must be a number other than 0'):
        charge_of('Li', 0.0)
