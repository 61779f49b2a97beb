"""The least squares behind the references, against the formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import chemical_symbols

from sevennet_mf.arrays import N_SPECIES
from sevennet_mf.data.estimator import (
    PRIOR_WIDTH,
    RIDGE,
    SCATTER_FLOOR,
    NormalEquations,
    Posterior,
    fit_alone,
    solve,
)

PRESENT = (1, 6, 7, 8)
FREE = np.full(N_SPECIES, np.nan)


def structures(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Fractions (n, 119) of four elements and energies (n,), seeded."""
    rng = np.random.default_rng(7)
    counts = np.zeros((n, N_SPECIES))
    counts[:, PRESENT] = rng.integers(0, 5, (n, len(PRESENT)))
    counts[:, 6] += 1
    x = counts / counts.sum(axis=1, keepdims=True)
    return x, x @ np.linspace(-9.0, -3.0, N_SPECIES) + rng.normal(0.0, 0.05, n)


def sums_of(x: np.ndarray, y: np.ndarray, size: int = 1000) -> NormalEquations:
    sums = NormalEquations()
    for i in range(0, len(y), size):
        sums.add(x[i : i + size], y[i : i + size])
    return sums


def normal_matrix(x: np.ndarray) -> np.ndarray:
    """(120, 120): The normal equations of (c, u) for unit scatter."""
    design = np.column_stack([np.ones(len(x)), x])
    prior = np.diag([0.0, *np.full(N_SPECIES, PRIOR_WIDTH**-2)])
    return design.T @ design + prior


def test_species_are_those_of_ase() -> None:
    assert len(chemical_symbols) == N_SPECIES


def test_sums_do_not_depend_on_chunks() -> None:
    x, y = structures(50)
    whole, parts = sums_of(x, y), sums_of(x, y, size=7)
    assert parts.count == whole.count == 50
    assert np.allclose(parts.gram, whole.gram, rtol=1e-12, atol=1e-12)
    assert np.allclose(parts.moment, whole.moment, rtol=1e-12, atol=1e-12)
    energies = np.linspace(-8.0, -4.0, N_SPECIES)
    direct = float(((y - x @ energies) ** 2).sum())
    assert whole.residual(energies) == pytest.approx(direct, rel=1e-10)


@pytest.mark.parametrize('n', [1, 3, 50])
def test_offset_and_deviations_are_the_written_out_minimum(n: int) -> None:
    x, y = structures(n)
    sums = sums_of(x, y)
    design = np.column_stack([np.ones(n), x])
    both = np.linalg.solve(normal_matrix(x), design.T @ y)
    found = solve(sums.gram, sums.moment, FREE, PRIOR_WIDTH**-2, centred=True)
    assert np.allclose(found, both[0] + both[1:], rtol=0, atol=1e-9)


@pytest.mark.parametrize('n', [1, 3, 50])
def test_the_base_is_the_written_out_minimum(n: int) -> None:
    x, y = structures(n)
    sums = sums_of(x, y)
    mean = y.mean()
    # the ridge as rows of the design matrix: no squared condition number
    rows = np.vstack([x, RIDGE**0.5 * np.eye(N_SPECIES)])
    values = np.concatenate([y - mean, np.zeros(N_SPECIES)])
    expected = mean + np.linalg.lstsq(rows, values, rcond=None)[0]
    found = solve(sums.gram, sums.moment, FREE, RIDGE, centred=False)
    assert np.allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize('n', [1, 3, 50])
def test_the_deviation_is_that_of_the_normal_equations(n: int) -> None:
    x, y = structures(n)
    covariance = np.linalg.inv(normal_matrix(x))
    asked = np.vstack([x[:1], np.eye(N_SPECIES)])
    design = np.column_stack([np.ones(len(asked)), asked])
    expected = np.sqrt(np.einsum('ni,ij,nj->n', design, covariance, design))
    posterior = Posterior.of(sums_of(x, y).gram, np.isnan(FREE), centred=True)
    assert np.allclose(posterior.std(asked), expected, rtol=1e-6)


def test_given_elements_are_no_longer_uncertain() -> None:
    x, y = structures(50)
    sums = sums_of(x, y)
    given = FREE.copy()
    given[8] = -8.25
    found = solve(sums.gram, sums.moment, given, PRIOR_WIDTH**-2, centred=True)
    assert found[8] == -8.25
    posterior = Posterior.of(sums.gram, np.isnan(given), centred=True)
    assert posterior.std(np.eye(N_SPECIES))[8] == 0.0
    # the others make up for the number: written out with oxygen moved left
    free = [z for z in PRESENT if z != 8]
    design = np.column_stack([x[:, free].sum(axis=1), x[:, free]])
    prior = np.diag([0.0, *np.full(len(free), PRIOR_WIDTH**-2)])
    left = design.T @ (y + 8.25 * x[:, 8])
    both = np.linalg.solve(design.T @ design + prior, left)
    assert np.allclose(found[free], both[0] + both[1:], rtol=0, atol=1e-9)


def test_scatter_is_found_and_has_a_floor() -> None:
    x, y = structures(2000)
    assert fit_alone(sums_of(x, y), FREE).scatter['fit'] == pytest.approx(
        0.05, rel=0.05
    )
    exact = x @ np.linspace(-9.0, -3.0, N_SPECIES)
    many = sums_of(np.tile(x, (20, 1)), np.tile(exact, 20))
    assert fit_alone(many, FREE).scatter['fit'] == SCATTER_FLOOR


def test_one_rare_element_in_many_structures_is_not_pulled() -> None:
    x, _ = structures(20000)
    rare = np.zeros((1, N_SPECIES))
    rare[0, [6, 79]] = 0.99, 0.01
    true = np.linspace(-9.0, -3.0, N_SPECIES)
    true[79] = -500.0
    x = np.vstack([x, rare])
    fitted = fit_alone(sums_of(x, x @ true), FREE).energies
    assert fitted[79] == pytest.approx(true[79], rel=2e-4)
    assert np.allclose(fitted[list(PRESENT)], true[list(PRESENT)], atol=1e-4)
