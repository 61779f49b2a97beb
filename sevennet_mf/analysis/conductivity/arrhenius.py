"""Nernst–Einstein conductivity, and the Arrhenius line through temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase import units
from scipy.stats import chi2

from sevennet_mf.arrays import Floats
from sevennet_mf.errors import UserError

ELEMENTARY_CHARGE: Final[float] = 1 / units.C  # in coulomb
BOLTZMANN: Final[float] = units.kB / units.J  # in J/K
MS_PER_CM: Final[float] = 10.0  # of 1 S/m
UNLIKELY: Final[float] = 0.05  # a line that fits worse is told
# charge by element of ions that conductors are made for; others have to be given
CHARGES: Final[dict[str, int]] = {
    **dict.fromkeys(['H', 'Li', 'Na', 'K', 'Rb', 'Cs', 'Ag', 'Cu'], 1),
    **dict.fromkeys(['Mg', 'Ca', 'Zn'], 2),
    'Al': 3,
    **dict.fromkeys(['F', 'Cl', 'Br', 'I'], -1),
    'O': -2,
}


@dataclass(frozen=True)
class Estimate:
    """A quantity with its intervals.

    Attributes:
        median: Of the samples.
        within_68: Lower and upper end of the central 68 %.
        within_95: Of the central 95 %.
    """

    median: float
    within_68: tuple[float, float]
    within_95: tuple[float, float]

    @classmethod
    def of(cls, samples: Floats) -> Estimate:
        """Return the estimate that samples of a posterior give."""
        low95, low, mid, high, high95 = np.percentile(
            samples, [2.5, 16, 50, 84, 97.5]
        ).tolist()
        return cls(mid, (low, high), (low95, high95))

    def times(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        (low, high), (low95, high95) = self.within_68, self.within_95
        return Estimate(
            factor * self.median,
            (factor * low, factor * high),
            (factor * low95, factor * high95),
        )


@dataclass(frozen=True)
class Carriers:
    """What carries the current.

    Attributes:
        ion: Symbol of the element.
        charge: Of an ion, in elementary charges.
        number: Of the ions in the cell.
        volume: Of the cell in Å^3.
    """

    ion: str
    charge: float
    number: int
    volume: float

    def conductivity(self, diffusion: Floats, temperature: float) -> Floats:
        """Return n q² D / (V kB T) in S/m, with a Haven ratio of 1.

        That is, ions are taken to move independently of each other.

        Args:
            diffusion: Any shape, in cm^2/s.
            temperature: In K.

        Returns:
            Conductivities of the same shape.
        """
        charge = self.charge * ELEMENTARY_CHARGE
        density = self.number / (self.volume * 1e-30)
        area = np.asarray(diffusion) * 1e-4  # m^2/s
        return density * charge**2 * area / (BOLTZMANN * temperature)


def charge_of(ion: str, given: float | None) -> float:
    """Return the charge of an ion: the given one, or that of the usual ions.

    Raises:
        UserError: It is 0, or has to be given.
    """
    if given is None and ion not in CHARGES:
        raise UserError(
            f'the charge of {ion} is not known here: give it with --charge, in '
            'elementary charges.'
        )
    charge = CHARGES[ion] if given is None else given
    if not np.isfinite(charge) or charge == 0:
        raise UserError(f'--charge must be a number other than 0, got {charge:g}.')
    return float(charge)


# ---- Arrhenius


@dataclass(frozen=True, eq=False)
class Arrhenius:
    """D = D0 exp(-Ea / kB T), fitted to several temperatures.

    Attributes:
        temperatures: (n,) in K, ascending.
        energies: (n_samples,) activation energy in eV.
        intercepts: (n_samples,) ln(D0 / (cm^2/s)).
        probability: That points scatter around a line as much as these do, with
            their uncertainties; None of two points, which always lie on one.
    """

    temperatures: Floats
    energies: Floats
    intercepts: Floats
    probability: float | None

    @property
    def is_line(self) -> bool:
        """Whether the points agree with a line, as far as can be told."""
        return self.probability is None or self.probability >= UNLIKELY

    def diffusion(self, temperature: float) -> Floats:
        """Return diffusion coefficients on the line.

        Args:
            temperature: In K.

        Returns:
            (n_samples,) in cm^2/s.
        """
        return np.exp(self.intercepts - self.energies / (units.kB * temperature))

    def is_extrapolation(self, temperature: float) -> bool:
        """Whether a temperature is outside of those that were simulated.

        Args:
            temperature: In K.

        Returns:
            True below the lowest and above the highest of them.
        """
        low, high = self.temperatures.min(), self.temperatures.max()
        return bool(temperature < low or temperature > high)


def fit_arrhenius(
    samples: Sequence[tuple[float, Floats]], seed: int = 1
) -> Arrhenius | None:
    """Fit the line, once for each sample of the diffusion coefficients.

    Each point has the weight of its own scatter, so that samples of the line are
    those of its posterior.

    Args:
        samples: Temperature in K and (n_samples,) diffusion coefficients in cm^2/s,
            for each temperature that has any.
        seed: Of the order in which samples of the temperatures are combined.

    Returns:
        The fit; None of fewer than two temperatures.
    """
    known = sorted(samples, key=lambda pair: pair[0])
    if len(known) < 2:
        return None
    rng = np.random.default_rng(seed)
    number = min(len(values) for _, values in known)
    # temperatures are independent runs: any sample of one goes with any of another
    logs = np.stack(
        [np.log(rng.permutation(values)[:number]) for _, values in known]
    )  # (n, n_samples)
    temperatures = np.array([temperature for temperature, _ in known])
    design = np.stack(
        [-1 / (units.kB * temperatures), np.ones_like(temperatures)], axis=1
    )
    weight = 1 / logs.std(axis=1)
    solver = np.linalg.pinv(design * weight[:, None])
    lines = solver @ (logs * weight[:, None])  # (2, n_samples)
    return Arrhenius(
        temperatures=temperatures,
        energies=lines[0],
        intercepts=lines[1],
        probability=_probability(design, logs, weight),
    )


def _probability(design: Floats, logs: Floats, weight: Floats) -> float | None:
    free = len(logs) - 2
    if free == 0:
        return None
    means = logs.mean(axis=1) * weight
    scaled = design * weight[:, None]
    left: Any = means - scaled @ (np.linalg.pinv(scaled) @ means)
    return float(chi2.sf(left @ left, free))
