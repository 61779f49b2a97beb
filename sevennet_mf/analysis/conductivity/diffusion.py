"""Mean squared displacement and diffusion coefficient, through kinisi."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.errors import UserError

LAGS: Final[int] = 60  # at most; kinisi inverts a matrix of this size
# the longest lag, as a part of the run: beyond it hardly anything is averaged
LONGEST: Final[float] = 0.5
STARTS: Final[int] = 12  # lags at which the diffusive regime may begin
LATEST: Final[float] = 1 / 3  # of the longest lag: a line needs a range
# An exponent of 1 is diffusion. It may deviate by two standard deviations, or by
# what vibrations around sites add to a mean squared displacement.
CLOSE: Final[float] = 0.15
VAGUE: Final[float] = 0.15  # a larger uncertainty says nothing
# Å, root mean square over the longest lag: about one site to the next. Ions that
# hop to and fro in a cage cover less, however long they do.
SITE: Final[float] = 3.0
UNEQUAL: Final[float] = 3.0  # standard deviations between the halves of a run
BURN, SAMPLES, THIN = 500, 1000, 10  # kinisi's defaults, of 32 walkers
CM2_PER_S: Final[float] = 1e-4  # of 1 Å^2/ps


@dataclass(frozen=True, eq=False)
class Diffusion:
    """What the displacements of the ions say.

    Attributes:
        lags: (n,) time differences in ps.
        msd: (n,) mean squared displacement of an ion in Å^2.
        msd_sd: (n,) its standard deviation.
        start: Lag in ps from which on the exponent and the coefficient are fitted.
        exponent: Slope of ln(MSD) over ln(lag) from there on; 1 is diffusion.
        exponent_sd: Its standard deviation.
        halves: MSD of the second half of the run minus that of the first, in
            standard deviations; far from 0 the run is not in equilibrium.
        samples: (n_samples,) of the posterior of the diffusion coefficient in
            cm^2/s; None if the run is not diffusive.
        line: (n_samples, 2) slope (Å^2/ps) and intercept (Å^2) of the same; None
            likewise.
    """

    lags: Floats
    msd: Floats
    msd_sd: Floats
    start: float
    exponent: float
    exponent_sd: float
    halves: float
    samples: Floats | None
    line: Floats | None

    @property
    def reason(self) -> str:
        """Why there is no diffusion coefficient; '' if there is one."""
        if self.samples is not None:
            return ''
        said = f'exponent of the MSD {self.exponent:.2f} ± {self.exponent_sd:.2f}'
        if _is_diffusive(self.exponent, self.exponent_sd):
            moved = float(np.sqrt(self.msd[-1]))
            return (
                f'too short: ions moved by {moved:.1f} Å within {self.lags[-1]:g} '
                f'ps, less than from one site to the next ({SITE:g} Å)'
            )
        if self.exponent_sd > VAGUE:
            return f'too short to tell: {said}'
        kind = 'not yet diffusive' if self.exponent < 1 else 'not diffusive'
        return f'{kind}: {said}, and diffusion has 1'

    @property
    def is_stationary(self) -> bool:
        """Whether ions are as fast in both halves of the run."""
        return abs(self.halves) <= UNEQUAL


def diffusion_of(
    positions: Floats, interval: float, start: float | None = None, seed: int = 1
) -> Diffusion:
    """Return the mean squared displacement and the diffusion coefficient of ions.

    Args:
        positions: (n_frames, n_ions, 3) in Å, not wrapped.
        interval: Time between frames in ps.
        start: Lag in ps at which the diffusive regime begins; default: the shortest
            from which on the exponent of the MSD is 1.
        seed: Of the samples.

    Returns:
        Both, without the coefficient if the run is not diffusive.

    Raises:
        UserError: kinisi is missing, or `start` is not a lag of this run.
    """
    group = _msd(positions, interval)
    data = group['da']
    lags = np.asarray(data.coords['time interval'].values)
    msd, variances = np.asarray(data.values), np.asarray(data.variances)
    counts = np.asarray(data.coords['n_samples'].values)
    first, exponent, sd = _regime(lags, msd, variances, counts, start)
    samples = line = None
    if _is_diffusive(exponent, sd) and msd[-1] >= SITE**2:
        samples, line = _posterior(group, float(lags[first]), seed)
    return Diffusion(
        lags=lags,
        msd=msd,
        msd_sd=np.sqrt(variances),
        start=float(lags[first]),
        exponent=exponent,
        exponent_sd=sd,
        halves=_halves(positions, interval, lags, msd, variances),
        samples=samples,
        line=line,
    )


def _msd(positions: Floats, interval: float) -> Any:
    """kinisi's group of data, with the number of samples of the whole run.

    Its readers of files count the first frame twice, which gives each displacement
    a wrong lag; and it takes the longest lag for the length of the run.
    """
    sc, Parser, calculate_msd, _ = _kinisi()
    steps = len(positions) - 1
    lags = _lags(steps)
    # in a cell that nothing leaves, kinisi has nothing to unwrap
    size = 10 * (1 + float(np.abs(positions).max()))
    frames = ['time', 'dimension1', 'dimension2']
    cells = np.tile(size * np.eye(3), (len(positions), 1, 1))
    atoms = np.arange(positions.shape[1])
    parser = Parser(
        coords=sc.array(
            dims=['time', 'particle', 'dimension'], values=positions / size
        ),
        latt=sc.array(dims=frames, values=cells, unit='angstrom'),
        time_step=interval * sc.Unit('ps'),
        step_skip=1 * sc.Unit('dimensionless'),
        dt=sc.array(dims=['time interval'], values=interval * lags, unit='ps'),
        specie_indices=sc.array(dims=['particle'], values=atoms),
        # drift is removed already
        drift_indices=sc.array(dims=['particle'], values=np.array([], dtype=int)),
    )
    # from rounded times kinisi would find some lags one frame too short
    parser.dt_index = sc.array(dims=['time interval'], values=lags)
    group = calculate_msd(parser, progress=False)
    share = float(lags[-1]) / steps
    data = group['da']
    data.variances = data.variances * share
    data.coords['n_samples'] = data.coords['n_samples'] / share
    return group


def _lags(steps: int) -> Ints:
    """(n,) in frames, evenly spaced, up to a half of the run."""
    longest = max(2, int(LONGEST * steps))
    return np.unique(np.linspace(1, longest, min(LAGS, longest)).astype(int))


def need_kinisi() -> None:
    """Check that kinisi is there, before anything that takes long.

    Raises:
        UserError: It is not.
    """
    _kinisi()


def _kinisi() -> tuple[Any, Any, Any, Any]:
    try:
        import scipp
        from kinisi.diffusion import Diffusion as Fit
        from kinisi.displacement import calculate_msd
        from kinisi.parser import Parser
    except ImportError as error:
        raise UserError(
            'conductivities need kinisi, which is not installed here: pip install '
            f"'sevennet_mf[analysis]' ({error})."
        ) from None
    return scipp, Parser, calculate_msd, Fit


# ---- where diffusion begins


def _regime(
    lags: Floats,
    msd: Floats,
    variances: Floats,
    counts: Floats,
    start: float | None,
) -> tuple[int, float, float]:
    """Index of the first lag of the diffusive regime; exponent, its deviation.

    If there is none, those of the latest lag at which it could begin.
    """
    if start is not None:
        latest = lags[max(0, len(lags) - 3)]
        if not 0 <= start <= latest:
            raise UserError(
                f'--start {start:g}: the diffusive regime must begin between 0 and '
                f'{latest:g} ps, as lags of this run reach {lags[-1]:g} ps.'
            )
        first = int(np.searchsorted(lags, start * (1 - 1e-9)))
        return (first, *_exponent(lags, msd, variances, counts, first))
    last = int(np.searchsorted(lags, LATEST * lags[-1]))
    found = (0, 0.0, np.inf)
    for first in np.unique(np.linspace(0, max(0, last - 1), STARTS).astype(int)):
        found = (int(first), *_exponent(lags, msd, variances, counts, int(first)))
        if _is_diffusive(*found[1:]):
            break
    return found


def _is_diffusive(exponent: float, sd: float) -> bool:
    return sd <= VAGUE and abs(exponent - 1) <= max(CLOSE, 2 * sd)


def _exponent(
    lags: Floats, msd: Floats, variances: Floats, counts: Floats, first: int
) -> tuple[float, float]:
    """Slope of ln(MSD) over ln(lag) and its standard deviation.

    Lags have the weight of their own variance; the deviation is that of kinisi's
    covariance: between lags i < j, the variance of i times n_i / n_j, the ratio of
    the numbers of samples. (As weights, the whole of it would do only for ions that
    diffuse, which is what is to be found out.)
    """
    x, y = lags[first:], msd[first:]
    if not (y > 0).all():
        return 0.0, np.inf  # ions that never moved
    order = np.arange(len(x))
    low, high = np.minimum.outer(order, order), np.maximum.outer(order, order)
    n = counts[first:]
    covariance = variances[first:][low] * n[low] / n[high] / np.outer(y, y)
    weight = y**2 / variances[first:]
    offset = np.log(x) - np.average(np.log(x), weights=weight)
    taken = weight * offset / (weight @ offset**2)  # slope = taken @ ln(MSD)
    values, vectors = np.linalg.eigh(covariance)
    spread = np.sqrt(np.clip(values, 0, None)) * (taken @ vectors)
    return float(taken @ np.log(y)), float(np.linalg.norm(spread))


def _halves(
    positions: Floats, interval: float, lags: Floats, msd: Floats, variances: Floats
) -> float:
    """Difference of the MSD between the halves of a run in standard deviations.

    At a lag that each half has several times over.
    """
    at = int(np.searchsorted(lags, lags[-1] / 4))
    lag = max(1, round(lags[at] / interval))
    square = ((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean(axis=1)
    middle = len(square) // 2
    change = float(square[middle:].mean() - square[:middle].mean())
    # each half has twice the variance of the whole
    sd = 2 * float(np.sqrt(variances[at]))
    return change / sd if sd > 0 else 0.0


# ---- the diffusion coefficient


def _posterior(group: Any, start: float, seed: int) -> tuple[Floats, Floats]:
    sc, _, _, Fit = _kinisi()
    fit = Fit(dg=group)
    with _seeded(seed), warnings.catch_warnings():
        # of matrices that it makes invertible itself
        warnings.simplefilter('ignore')
        fit.bayesian_regression(
            # rounding must not lose the first lag
            start_dt=start * (1 - 1e-9) * sc.Unit('ps'),
            n_samples=SAMPLES,
            n_burn=BURN,
            n_thin=THIN,
            progress=False,
        )
    slope = np.asarray(fit.gradient.values)
    line = np.stack([slope, np.asarray(fit.intercept.values)], axis=1)
    return slope / 6 * CM2_PER_S, line


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within, NumPy's global generator, which kinisi draws from, is seeded."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
